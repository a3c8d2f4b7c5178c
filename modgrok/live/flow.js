// The model's map: tokens, blocks, heads and answer along the residual stream, each part with its switch.

/** Tokens, blocks, heads and answer of one panel's model from top to bottom, each part with its switch. */
function flowView(model, change) {
  const { depth, n_head: H } = model.config;
  const say = (text) => write(reading, text);
  const reading = make("p", { className: "ask-quiet" });
  const tokens = stripView(say);
  const bars = barsView();
  const switches = []; // {parts, button, row}

  const row = (label, ...rest) =>
    make("div", { className: "ask-part" }, make("div", { className: "ask-label" }, ...label), ...rest);
  const toggle = (text, name, parts) => {
    const button = make("button", {
      type: "button",
      role: "switch",
      className: "ask-switch",
      textContent: text,
    });
    button.setAttribute("aria-label", name);
    button.onclick = () =>
      change((off) => {
        const isOff = parts.every((part) => off.has(part));
        for (const part of parts) isOff ? off.delete(part) : off.add(part);
      });
    switches.push({ parts, button });
    return button;
  };
  const blocks = Array.from({ length: depth }, (_, b) => {
    const [heads, mlp] = [Array.from({ length: H }, (_, h) => `blocks.${b}.head.${h}`), `blocks.${b}.mlp`];
    const strips = heads.map(() => stripView(say));
    const only = (h) => {
      const button = make("button", { type: "button", className: "ask-only", textContent: "only" });
      button.setAttribute("aria-label", `of block ${b}'s heads keep only head ${h}`);
      button.onclick = () =>
        change((off) => heads.forEach((head, i) => (i === h ? off.delete(head) : off.add(head))));
      return button;
    };
    const soFar = b < depth - 1 ? stripView(say) : null;
    const element = make(
      "div",
      { className: "ask-block" },
      make("div", { className: "ask-part ask-head" }, toggle(`block ${b}`, `block ${b}`, [...heads, mlp])),
      ...heads.map((head, h) =>
        row(
          [toggle(`head ${h}`, `block ${b}, head ${h}`, [head]), ...(H > 1 ? [only(h)] : [])],
          strips[h].element,
        ),
      ),
      row([toggle("MLP", `block ${b}, MLP`, [mlp])]),
      ...(soFar ? [row(["answer so far"], soFar.element)] : []),
    );
    return { element, strips, soFar };
  });
  const title = make("p", { className: "ask-title" });
  const reset = button("all parts on", () => change((off) => off.clear()));
  const element = make(
    "section",
    { className: "ask-flow" },
    make("div", { className: "ask-row" }, title, reset),
    row(["tokens"], tokens.element),
    ...blocks.map((block) => block.element),
    row(["answer"], bars.element),
    reading,
  );

  /** The model's name, and which parts are off. */
  function show(name, off) {
    write(title, name);
    reset.style.visibility = off.size ? "" : "hidden"; // keeps its place: the switches stay under the pointer
    for (const { parts, button } of switches) {
      const isOff = parts.every((part) => off.has(part));
      button.setAttribute("aria-checked", !isOff);
      button.closest(".ask-part").classList.toggle("ask-off", isOff);
    }
  }

  function draw({ context, query, seen, odds, exact, truth, by, looks }) {
    const flat = [...context.flat(), ...query];
    const place = (t) => {
      const example = Math.floor(t / 3);
      return example < context.length
        ? `${"xyz"[t % 3]} of example ${example + 1}`
        : `the query's ${"xy"[t % 3]}`;
    };
    const texts = flat.map(String);
    const common = { group: 3, looks };
    tokens.draw({
      ...common,
      weights: flat.map(() => 0),
      texts,
      label: (t) => `${flat[t]}: ${place(t)}`,
      description: `tokens ${texts.join(" ")}`,
    });
    blocks.forEach(({ strips, soFar }, b) => {
      const { weights, readout } = seen[b];
      strips.forEach((strip, h) => {
        const looksAt = weights.subarray(h * flat.length, (h + 1) * flat.length);
        const label = (t) => `Block ${b}, head ${h} looks at ${flat[t]}, ${place(t)}: ${percent(looksAt[t])}.`;
        const top = [...looksAt.keys()].sort((i, j) => looksAt[j] - looksAt[i]).slice(0, 3);
        const list = top.map((t) => `${place(t)} ${percent(looksAt[t])}`).join(", ");
        strip.draw({ ...common, weights: looksAt, label, description: `block ${b}, head ${h} looks at ${list}` });
      });
      if (!soFar) return;
      const early = softmax(readout);
      const label = (z) => `Read off after block ${b}, the answer would be ${z} with ${percent(early[z])}.`;
      soFar.draw({
        weights: early,
        texts: early.map((_, z) => z),
        group: 1,
        label,
        description: label(argmax(early)),
        looks,
      });
    });
    const listed = (shares) => shares.map((share, z) => `${z}: ${percent(share)}`).join(", ");
    bars.draw({ odds, exact, truth, description: `${listed(odds)}; ${by}: ${listed(exact)}`, looks });
    say(`Line across a bar: ${by}. Bold: the truth. Point at a strip to read it.`);
  }
  return { element, show, draw };
}
