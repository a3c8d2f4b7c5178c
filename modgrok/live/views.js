// What is drawn: canvases, each in an element that says what it shows to those who do not see it.

/** An element with properties or attributes, and what it holds. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

let made = 0; // elements that needed an id

/** Give an element another text; the same again would cost a layout of the page. */
function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function button(text, onclick) {
  return make("button", { type: "button", textContent: text, onclick });
}

function options(select, names) {
  select.replaceChildren(...names.map((name) => make("option", { value: name, textContent: name })));
  return select;
}

/** The context of a canvas that is so many CSS pixels large and sharp on its screen; what it shows stays if that holds. */
function canvasContext(canvas, width, height) {
  const scale = globalThis.devicePixelRatio || 1;
  const [wide, high] = [Math.round(width * scale), Math.round(height * scale)];
  const context = canvas.getContext("2d");
  if (canvas.width !== wide || canvas.height !== high || !canvas.style.width) {
    Object.assign(canvas, { width: wide, height: high }); // costs a layout of the page
    Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
  }
  context.setTransform(scale, 0, 0, scale, 0, 0);
  Object.assign(context, { textAlign: "center", textBaseline: "middle" });
  return context;
}

function emptyContext(canvas, width, height) {
  const context = canvasContext(canvas, width, height);
  context.clearRect(0, 0, width, height);
  return context;
}

/**
 * How things look: the theme's colours, those that live.css names --ask-… and the text's own as `ink`, and `widthOf` an
 * element that is drawn. All is read at once, for after each change of the page a reading costs a layout.
 */
function looksOf(root) {
  const style = getComputedStyle(root);
  const named = ["right", "right-ink", "wrong", "wrong-ink", "plain", "line", "ring", "look"];
  const widths = new Map();
  for (const element of root.querySelectorAll(".ask-grid, .ask-strip")) widths.set(element, element.clientWidth);
  return {
    ink: style.color,
    ...Object.fromEntries(named.map((n) => [n, style.getPropertyValue(`--ask-${n}`)])),
    widthOf: (element) => widths.get(element),
  };
}

const FONT = "system-ui, sans-serif";
const SMALL = `10px ${FONT}`; // axes and tokens

/** A grid over all queries, x to the right and y upwards, a cell at most so many pixels large. One tab stop: arrow keys move the query. */
function gridView(p, pick, largest = 32) {
  const canvas = make("canvas", { "aria-hidden": "true" });
  const cell = make("span", {
    role: "gridcell",
    id: `ask-cell-${made++}`,
    className: "ask-cell",
    "aria-selected": "true",
  });
  const row = make("div", { role: "row" }, cell);
  const element = make("div", { role: "grid", className: "ask-grid", tabIndex: 0 }, canvas, row);
  for (const [name, value] of [
    ["rowcount", p],
    ["colcount", p],
    ["activedescendant", cell.id],
  ]) {
    element.setAttribute(`aria-${name}`, value);
  }
  let [query, size, margin] = [[0, 0], 0, 0];
  element.onkeydown = (event) => {
    const [x, y] = query;
    const next = {
      ArrowLeft: [x - 1, y],
      ArrowRight: [x + 1, y],
      ArrowUp: [x, y + 1],
      ArrowDown: [x, y - 1],
      Home: [0, y],
      End: [p - 1, y],
      PageUp: [x, p - 1],
      PageDown: [x, 0],
    }[event.key];
    if (!next) return;
    event.preventDefault();
    pick(next.map((n) => (n + p) % p));
  };
  canvas.onclick = (event) => {
    const pair = [Math.floor((event.offsetX - margin) / size), p - 1 - Math.floor(event.offsetY / size)];
    if (pair.every((n) => n >= 0 && n < p)) pick(pair);
  };

  let drawn = {}; // what is on the canvas: cell by cell, for a change leaves most as they are
  /** cells: x·p + y → {text, kind: right | wrong | plain | none}; rings: cells of the context → is it a lie? */
  function draw({ cells, rings, label, description, looks, ...options }) {
    query = options.query;
    margin = p > 10 ? 18 : 13;
    size = Math.max(4, Math.min(largest, Math.floor((looks.widthOf(element) - margin) / p)));
    const [side, gap] = [size * p, size < 10 ? 0 : 1];
    const context = canvasContext(canvas, margin + side, side + 14);
    if (drawn.looks !== looks || drawn.wide !== canvas.width) {
      drawn = { looks, wide: canvas.width, cells: [] };
      context.clearRect(0, 0, margin + side, side + 14);
      context.font = SMALL;
      context.fillStyle = looks.ink;
      const stride = Math.ceil((p > 10 ? 15 : 9) / size);
      for (let n = 0; n < p; n += stride) {
        context.fillText(n, margin + (n + 0.5) * size, side + 9);
        context.fillText(n, margin / 2 - 1, (p - 0.5 - n) * size + 1);
      }
    }
    const font = Math.min(14, Math.floor(size * (p > 10 ? 0.62 : 0.7)));
    const isReadable = font >= 9;
    context.font = `${font}px ${FONT}`;
    cells.forEach(({ text, kind }, i) => {
      const key = `${text} ${kind} ${rings.get(i)}`;
      if (drawn.cells[i] === key) return;
      drawn.cells[i] = key;
      const [left, top] = [margin + Math.floor(i / p) * size, (p - 1 - (i % p)) * size];
      const [x, y] = [left + (size - gap) / 2, top + (size - gap) / 2]; // its centre
      context.clearRect(left, top, size, size);
      context.fillStyle = looks[kind];
      if (kind !== "none") context.fillRect(left, top, size - gap, size - gap);
      else {
        context.lineWidth = 1;
        context.strokeStyle = looks.line;
        context.setLineDash([]);
        context.strokeRect(left + 0.5, top + 0.5, size - gap - 1, size - gap - 1);
      }
      context.fillStyle = looks[`${kind}-ink`] ?? looks.ink;
      if (isReadable) context.fillText(text, x, y + 1);
      if (!rings.has(i)) return;
      context.lineWidth = size < 14 ? 1 : 1.5;
      context.strokeStyle = looks.ring;
      context.setLineDash(rings.get(i) ? [2, 2] : []);
      context.beginPath();
      context.arc(x, y, size * 0.42, 0, 7);
      context.stroke();
    });
    const [x, y] = query;
    Object.assign(cell.style, { left: `${margin + x * size}px`, top: `${(p - 1 - y) * size}px` });
    Object.assign(cell.style, { width: `${size - gap}px`, height: `${size - gap}px` });
    row.setAttribute("aria-rowindex", p - y);
    cell.setAttribute("aria-colindex", x + 1);
    cell.setAttribute("aria-label", description);
    element.setAttribute("aria-label", label);
  }
  return { element, draw };
}

/** A card: a heading, a grid over all queries, a line that counts what is right, and whatever stands below. */
function cardView(p, pick, heading, below = [], largest = undefined) {
  const grid = gridView(p, pick, largest);
  const count = make("p", { className: "ask-count" });
  const top = make("div", { className: "ask-row" }, heading);
  return { grid, count, element: make("section", { className: "ask-card" }, top, grid.element, count, ...below) };
}

function titleView(text) {
  return make("p", { className: "ask-title", textContent: text });
}

function cardsView(p, cards) {
  const element = make("div", { className: "ask-cards" }, ...cards.map((card) => card.element));
  element.style.setProperty("--card", leastWidth(p));
  return element;
}

const SIGNS = { right: "right", wrong: "wrong", ring: "an example", lie: "an example that lies" };

/** What the colours and rings of the grids mean, and what can be done. */
function legendView(hint, signs = SIGNS) {
  const items = Object.entries(signs).map(([sign, text]) =>
    make("span", {}, make("span", { className: `ask-sign ask-sign-${sign}`, "aria-hidden": "true" }), text),
  );
  return make("p", { className: "ask-legend" }, ...items, make("span", { textContent: hint }));
}

/** The slider of how many examples stand in front of the query, and the examples: {elements, draw(state)}. */
function examplesControl(p, change, turnLie, describe) {
  const shots = make("input", { type: "range", min: 0, oninput: () => change({ shots: Number(shots.value) }) });
  const text = make("span");
  const examples = examplesView(turnLie);
  function draw(state) {
    shots.max = state.examples.length;
    shots.value = state.shots;
    write(text, describe(state));
    shots.setAttribute("aria-valuetext", text.textContent);
    examples.draw(state, p);
  }
  return { elements: [make("label", { className: "ask-row" }, "examples", shots, text), examples.element], draw };
}

/** Of a card with a grid whose numbers can be read. */
function leastWidth(p) {
  return `${Math.min(330, Math.max(150, 15 * p + 20))}px`;
}

/** The pairs of a context as x·p + y → did any example of it lie? */
function ringsOf(context, task, p) {
  const rings = new Map();
  for (const example of context) {
    const q = example[0] * p + example[1];
    rings.set(q, rings.get(q) || isLie(example, task, p));
  }
  return rings;
}

/** Answers (p², null where there is none) in a `gridView`, judged by the truth where that is given. */
function drawAnswers(grid, { p, answers, truth, query: [x, y], ...options }) {
  const isJudged = (i) => truth && truth[i] !== null;
  const kind = (z, i) => (z === null ? "none" : !isJudged(i) ? "plain" : z === truth[i] ? "right" : "wrong");
  const cells = answers.map((z, i) => ({ text: z ?? "·", kind: kind(z, i) }));
  const { text, kind: judged } = cells[x * p + y];
  const answer = judged === "none" ? "cannot tell" : judged === "plain" ? text : `${text}, ${judged}`;
  grid.draw({ ...options, cells, query: [x, y], description: `x ${x}, y ${y}: ${answer}` });
}

/** The examples as buttons, each of which makes its example lie, or mends it. */
function examplesView(press) {
  const element = make("ol", { className: "ask-examples" });
  element.setAttribute("aria-label", "examples; pressing one makes it lie");

  /** Buttons that stay are kept, and with them the focus. */
  function draw({ examples, shots, task }, p) {
    while (element.children.length > examples.length) element.lastChild.remove();
    while (element.children.length < examples.length) {
      const i = element.children.length;
      element.append(make("li", {}, make("button", { type: "button", onclick: () => press(i) })));
    }
    examples.forEach((example, i) => {
      const [[x, y, z], isFalse, item] = [example, isLie(example, task, p), element.children[i]];
      const chip = item.firstChild;
      item.classList.toggle("ask-unread", i >= shots);
      const description = `example ${i + 1}: ${x} ${y} gives ${z}${isFalse ? ", a lie" : ""}`;
      if (chip.getAttribute("aria-label") === description) return;
      chip.textContent = `${x} ${y} → ${z}`;
      chip.className = isFalse ? "ask-lie" : "";
      chip.setAttribute("aria-pressed", isFalse);
      chip.setAttribute("aria-label", description);
      chip.title = isFalse ? "a lie: press to mend it" : "press to make it lie";
    });
  }
  return { element, draw };
}

/** A row of cells shaded by weights from 0 to 1. */
function stripView(say) {
  const canvas = make("canvas", { role: "img", height: 18 });
  const element = make("div", { className: "ask-strip" }, canvas);
  let [cells, name] = [0, null];
  canvas.onpointermove = canvas.onpointerdown = (event) => {
    const i = Math.floor((event.offsetX / canvas.clientWidth) * cells);
    if (i >= 0 && i < cells) say(name(i));
  };

  /** weights: of n cells; texts: theirs, if there is room, else groups are numbered; label(i): said on pointing. */
  function draw({ weights, texts, group, label, description, looks }) {
    [cells, name] = [weights.length, label];
    const [n, height] = [weights.length, 18];
    const width = looks.widthOf(element);
    const context = emptyContext(canvas, width, height);
    const step = width / n;
    context.fillStyle = looks.look;
    for (let i = 0; i < n; i++) {
      if (weights[i] < 1e-4) continue; // not to be seen
      context.globalAlpha = Math.sqrt(weights[i]); // small weights stay visible
      context.fillRect(i * step, 0, step, height);
    }
    context.globalAlpha = 1;
    if (texts) {
      context.font = SMALL;
      context.fillStyle = looks.ink;
      const fits = [...new Set(texts)].every((text) => context.measureText(text).width + 1 <= step);
      const size = fits ? 1 : group;
      const stride = fits ? 1 : Math.ceil(15 / (step * group));
      for (let i = stride - 1; (i + 1) * size <= n; i += stride) {
        context.fillText(fits ? texts[i] : i + 1, (i + 0.5) * size * step, height / 2 + 1);
      }
    }
    context.fillStyle = looks.line;
    for (let i = 0; i < n; i += group) context.fillRect(Math.round(i * step), 0, 1, height);
    context.fillRect(width - 1, 0, 1, height);
    context.fillRect(0, 0, width, 1);
    context.fillRect(0, height - 1, width, 1);
    canvas.setAttribute("aria-label", description);
  }
  return { element, draw };
}

/** Bars of the model's probabilities, and a line across each where the predictor's stands. */
function barsView() {
  const canvas = make("canvas", { role: "img", height: 84 });
  const element = make("div", { className: "ask-strip" }, canvas);

  function draw({ odds, exact, truth, description, looks }) {
    const [p, height, foot, head] = [odds.length, 84, 14, 13];
    const width = looks.widthOf(element);
    const context = emptyContext(canvas, width, height);
    const step = Math.min(width / p, 40);
    const full = height - foot - head;
    context.font = SMALL;
    const stride = Math.ceil((p > 10 ? 15 : 9) / step);
    const best = argmax(odds);
    odds.forEach((odd, z) => {
      const left = z * step + 1;
      context.fillStyle = looks.plain;
      context.fillRect(left, head, step - 2, full);
      context.fillStyle = looks.look;
      context.fillRect(left, head + full * (1 - odd), step - 2, full * odd);
      context.fillStyle = looks.ink;
      context.fillRect(left - 1, head + full * (1 - exact[z]) - 1, step, 2);
      context.font = z === truth ? `bold ${SMALL}` : SMALL;
      if (z % stride === 0 || z === best) context.fillText(z, left - 1 + step / 2, height - 6);
    });
    const text = `${Math.round(100 * odds[best])} %`;
    const half = context.measureText(text).width / 2;
    context.fillText(text, Math.min(Math.max((best + 0.5) * step, half), width - half), 6);
    canvas.setAttribute("aria-label", description);
  }
  return { element, draw };
}

/** One bar a checkpoint: how many queries are right, in the colour of the query that is looked at. */
function historyView(pick) {
  const canvas = make("canvas", { role: "img" });
  const element = make("div", { className: "ask-history" }, canvas);
  let steps = [];
  canvas.onclick = (event) => pick(steps[Math.floor((event.offsetX / canvas.clientWidth) * steps.length)]);

  /** shares: (n) right answers; right: (n) is the query's answer right; now: the index of the step shown. */
  function draw({ shares, right, now, description, looks, ...options }) {
    steps = options.steps;
    const [width, height] = [element.clientWidth, 44];
    const context = emptyContext(canvas, width, height);
    const step = width / shares.length;
    shares.forEach((share, i) => {
      context.fillStyle = looks.plain;
      context.fillRect(i * step, 0, step - 1, height - 4);
      context.fillStyle = right[i] ? looks.right : looks.wrong;
      const top = (height - 4) * (1 - share);
      context.fillRect(i * step, top, step - 1, height - 4 - top);
      context.strokeStyle = looks.line;
      context.strokeRect(i * step + 0.5, top + 0.5, step - 2, height - 5 - top);
    });
    context.fillStyle = looks.ink;
    context.fillRect(now * step, height - 3, step - 1, 3);
    canvas.setAttribute("aria-label", description);
    canvas.title = "violet: the outlined query is answered wrong at that step";
  }
  return { element, draw };
}

function percent(share) {
  return `${Math.round(100 * share)} %`;
}

/** Name a control for those who do not see it, and keep its keys from JupyterLab, which takes single ones as commands. */
function nameControl(root, label) {
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", label);
  root.addEventListener("focusin", (event) => (event.target.dataset.lmSuppressShortcuts = "true"));
}

/** Draw again when an element has another width, or the page other colours: looks have to be asked for again. */
function onChangedLooks(root, redraw) {
  let width = 0;
  new ResizeObserver(() => {
    if (root.clientWidth !== width) requestAnimationFrame(redraw);
    width = root.clientWidth;
  }).observe(root);
  new MutationObserver(redraw).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
}

/** Begin when the reader comes near, or follows a link to the control of that name: weights are heavy. */
function whenNear(root, name, begin) {
  const near = new IntersectionObserver(
    (entries) => entries.some((entry) => entry.isIntersecting) && start(),
    { rootMargin: "800px" },
  );
  const startIfLinked = () => fromHash(name, location.hash) && start();
  function start() {
    near.disconnect();
    removeEventListener("hashchange", startIfLinked);
    begin();
    if (fromHash(name, location.hash)) root.scrollIntoView();
  }
  addEventListener("hashchange", startIfLinked);
  near.observe(root);
  startIfLinked();
}
