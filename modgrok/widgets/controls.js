(() => {
  const TEXTS = "script[type='text/plain']";
  const parts = (root, selector) => [...root.querySelectorAll(selector)];

  // Of `widgets._packed`: lines that occur once, and each text as steps from line to line; or of `widgets._plain`.
  async function unpack(script) {
    if (script.matches(".modgrok-plain")) return script.textContent.split("\n¶\n");
    const bytes = Uint8Array.from(atob(await packedText(script)), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    const [lines, texts] = JSON.parse(await new Response(stream).text());
    return texts.map((steps) => {
      let place = 0;
      return steps.map((step) => lines[(place += step)]).join("\n");
    });
  }

  // The book keeps what is large in a script beside its pages (`book.build.mend_pages`); file:// allows no fetch.
  async function packedText({ textContent, dataset: { beside } }) {
    if (!beside) return textContent;
    if (!globalThis.modgrokPictures?.[beside]) {
      const source = document.createElement("script");
      source.src = `${document.documentElement.dataset.content_root}_static/pictures/${beside}.js`;
      const done = new Promise((resolve, reject) => Object.assign(source, { onload: resolve, onerror: reject }));
      document.head.append(source);
      await done;
    }
    return globalThis.modgrokPictures[beside];
  }

  // A promise of the texts, asked for when a reader comes near a control.
  function texts(script) {
    let unpacked;
    return () => (unpacked ??= unpack(script));
  }

  function made(html) {
    const template = document.createElement("template");
    template.innerHTML = html;
    return template.content.firstElementChild;
  }

  // The shown picture as a file's text: the colours of a light page, and the width that is shown.
  function svgText(deck) {
    const shown = parts(deck, ".modgrok-picture svg").find((svg) => svg.getBoundingClientRect().width > 0);
    return shown.outerHTML.replace(/var\(--mg-\w+, (#\w+)\)/g, "$1").replace(/(max|min)-width: [^;]+;/g, "");
  }

  const FILE_TYPES = { svg: "image/svg+xml", csv: "text/csv" };

  function download(text, format, name) {
    const url = URL.createObjectURL(new Blob([text], { type: FILE_TYPES[format] }));
    Object.assign(document.createElement("a"), { href: url, download: `${name}.${format}` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  }

  // What scrolls must be reached by the keyboard.
  function reach(picture) {
    if (picture.scrollWidth > picture.clientWidth + 1) picture.tabIndex = 0;
    else picture.removeAttribute("tabindex");
  }

  function startDeck(deck) {
    const sliders = parts(deck, ".modgrok-slider");
    const name = () => {
      const figure = deck.dataset.name || deck.closest("figure")?.id || "figure";
      return [figure, ...sliders.map((s) => s.querySelector("output").value)].join("-").replace(/[^\w.-]+/g, "");
    };
    const ranges = sliders.map((slider) => slider.querySelector("input"));
    const index = () => ranges.reduce((place, range) => place * (+range.max + 1) + +range.value, 0);
    const tables = texts(deck.querySelector(`:scope > .modgrok-data > ${TEXTS}`));
    for (const link of parts(deck, ".modgrok-download")) {
      link.addEventListener("click", async (event) => {
        event.preventDefault();
        const { format } = link.dataset;
        download(format === "svg" ? svgText(deck) : (await tables())[index()], format, name());
      });
    }
    const packed = deck.querySelector(`:scope > ${TEXTS}`);
    const pictures = packed && texts(packed);

    async function show() {
      const all = await pictures();
      const before = deck.querySelector(".modgrok-picture");
      const after = made(all[index()]);
      const left = before.scrollLeft;
      before.replaceWith(after);
      after.scrollLeft = left;
      reach(after);
    }

    new ResizeObserver(() => reach(deck.querySelector(".modgrok-picture"))).observe(deck);
    if (!sliders.length) return;
    for (const event of ["pointerenter", "focusin"]) deck.addEventListener(event, pictures, { once: true });

    sliders.forEach((slider, i) => {
      const range = ranges[i];
      const labels = JSON.parse(slider.dataset.labels);
      const play = slider.querySelector(".modgrok-play");
      let timer;
      const stop = () => {
        clearInterval(timer);
        play?.setAttribute("aria-pressed", "false");
      };
      function go(value) {
        range.value = value;
        slider.querySelector("output").value = labels[range.value];
        range.setAttribute("aria-valuetext", labels[range.value]);
        show();
      }
      range.addEventListener("input", () => (stop(), go(range.value)));
      slider.querySelector(".modgrok-back").addEventListener("click", () => (stop(), go(+range.value - 1)));
      slider.querySelector(".modgrok-next").addEventListener("click", () => (stop(), go(+range.value + 1)));
      play?.addEventListener("click", () => {
        if (play.getAttribute("aria-pressed") === "true") return stop();
        play.setAttribute("aria-pressed", "true");
        if (range.value === range.max) go(0);
        timer = setInterval(() => {
          if (!deck.isConnected || range.value === range.max) return stop();
          go(+range.value + 1);
        }, 700);
      });
      play?.setAttribute("aria-pressed", "false");
      range.dataset.lmSuppressShortcuts = "true"; // or JupyterLab takes its keys
    });
  }

  function startTabs(root) {
    const list = root.querySelector(":scope > [role=tablist]");
    const titles = [...list.children];
    const pages = texts(root.querySelector(`:scope > ${TEXTS}`));
    const opened = new Map([[0, root.querySelector(":scope > .modgrok-page")]]);
    async function choose(i) {
      titles.forEach((title, j) => {
        title.setAttribute("aria-selected", String(i === j));
        title.tabIndex = i === j ? 0 : -1;
      });
      if (!opened.has(i)) {
        const page = opened.get(0).cloneNode(false);
        page.setAttribute("aria-label", titles[i].textContent);
        page.innerHTML = (await pages())[i];
        opened.set(i, page);
        start(page);
      }
      if (titles[i].getAttribute("aria-selected") === "true")
        root.querySelector(":scope > .modgrok-page").replaceWith(opened.get(i));
    }
    titles.forEach((title, i) => {
      title.dataset.lmSuppressShortcuts = "true";
      title.addEventListener("click", () => choose(i));
      title.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (!step) return;
        const to = (i + step + titles.length) % titles.length;
        titles[to].focus();
        choose(to);
      });
    });
  }

  function start(root) {
    for (const element of parts(root, ".modgrok-deck:not([data-ready]), .modgrok-tabs:not([data-ready])")) {
      element.dataset.ready = "";
      element.matches(".modgrok-tabs") ? startTabs(element) : startDeck(element);
    }
  }
  start(document);
})();
