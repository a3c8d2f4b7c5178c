// The control around the transformer: a question, its answers, and the switches of the model.
//
// state: {panels: [{model, step, off}], task: [a, b], examples: [[x, y, z]], shots, query: [x, y], by}, where model is a
// label, off a Set of switched-off parts and by the name of a predictor. Whatever changes it calls `update`, which asks
// the models and draws everything anew.

const HTML_ROOT = document.documentElement.dataset.content_root; // Sphinx's; undefined outside the book
const SHOWN_PREDICTORS = Object.keys(PREDICTORS);

/** Fill the elements that wait for a control of that name; the arguments are those of modgrok.live.ask. */
function start(name, models, state) {
  for (const root of document.querySelectorAll(".modgrok-live:empty")) {
    if (root.dataset.name === name) control(root, name, models, state);
  }
}

// --- weights ---------------------------------------------------------------------------------------------------

const loaded = new Map(); // run and step → promise of its Transformer

/** The model at a checkpoint, whose weights are in the page or in a script beside it (file:// allows no fetch). */
function load(model, step) {
  const key = `${model.name}-${step}`;
  const read = async () => {
    let text = model.steps.find((s) => s.step === step).weights;
    if (!text) {
      await addScript(`${HTML_ROOT}_static/live/${key}.js`);
      text = globalThis.modgrokWeights[key];
      delete globalThis.modgrokWeights[key];
    }
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new Transformer(readSafetensors(bytes.buffer), model.config);
  };
  if (!loaded.has(key)) {
    loaded.set(key, read());
    loaded.get(key).catch(() => loaded.delete(key)); // another try may succeed
  }
  return loaded.get(key);
}

function addScript(source) {
  return new Promise((resolve, reject) => {
    const script = make("script", { src: source });
    script.onload = resolve;
    script.onerror = () => reject(new Error(`${source} is missing`));
    document.head.append(script);
    script.remove();
  });
}

/** The checkpoints that can be loaded here: in the book all, elsewhere those that the page holds. */
function stepsOf(model) {
  return model.steps.filter((s) => s.weights || HTML_ROOT !== undefined).map((s) => s.step);
}

function partsOf({ config }) {
  const heads = (b) => Array.from({ length: config.n_head }, (_, h) => `blocks.${b}.head.${h}`);
  return Array.from({ length: config.depth }, (_, b) => [...heads(b), `blocks.${b}.mlp`]).flat();
}

// --- state -----------------------------------------------------------------------------------------------------

/** A valid state from one that may hold anything, such as a link's: what is not allowed is taken from `otherwise`. */
function restored(given, models, otherwise) {
  const { p } = models[0].config;
  const most = Math.min(...models.map((m) => m.config.n_examples)) - 1;
  const below = (end) => (n) => Number.isInteger(n) && n >= 0 && n < end;
  const numbers = (list, length) => Array.isArray(list) && list.length === length && list.every(below(p));
  const panels = (given.panels ?? []).slice(0, 2).flatMap((panel) => {
    const model = models.find((m) => m.label === panel.model);
    return model ? [restoredPanel(model, panel)] : [];
  });
  const own = given.examples?.length <= most && given.examples.every((example) => numbers(example, 3));
  const state = {
    panels: panels.length ? panels : otherwise.panels,
    task: numbers(given.task, 2) ? given.task : otherwise.task,
    examples: own ? given.examples.map((e) => [...e]) : otherwise.examples,
    query: numbers(given.query, 2) ? given.query : otherwise.query,
    by: SHOWN_PREDICTORS.includes(given.by) ? given.by : otherwise.by,
  };
  const fits = below(state.examples.length + 1);
  const shots = [given.shots, otherwise.shots].find((n, i) => fits(n) && !(i && own));
  return { ...state, shots: shots ?? state.examples.length };
}

function restoredPanel(model, { step, off = [] }) {
  const steps = stepsOf(model);
  const isOff = (part) => {
    const block = part.split(".", 2).join(".");
    return [...off].some((name) => name === part || name === block || (name === `${block}.attn` && !part.endsWith("mlp")));
  };
  return {
    model: model.label,
    step: steps.includes(step) ? step : steps.at(-1),
    off: new Set(partsOf(model).filter(isOff)),
  };
}

/** A state as the text behind # in an address, and back. */
function toHash(name, state) {
  const fields = new URLSearchParams();
  for (const { model, step, off } of state.panels) {
    fields.append("model", model);
    fields.append("step", step);
    fields.append("off", [...off].join(" "));
  }
  fields.append("task", state.task.join("."));
  fields.append("examples", state.examples.map((e) => e.join(".")).join(" "));
  fields.append("shots", state.shots);
  fields.append("query", state.query.join("."));
  fields.append("by", state.by);
  return `#${name}?${fields}`;
}

function fromHash(name, hash) {
  if (!hash.startsWith(`#${name}?`)) return null;
  const fields = new URLSearchParams(hash.slice(name.length + 2));
  const words = (text) => (text ? text.split(" ") : []);
  const numbers = (text) => (text ?? "").split(".").map(Number);
  const [steps, off] = [fields.getAll("step"), fields.getAll("off")];
  return {
    panels: fields.getAll("model").map((model, i) => ({ model, step: Number(steps[i]), off: words(off[i]) })),
    task: numbers(fields.get("task")),
    examples: fields.has("examples") ? words(fields.get("examples")).map(numbers) : undefined,
    shots: fields.has("shots") ? Number(fields.get("shots")) : undefined,
    query: numbers(fields.get("query")),
    by: fields.get("by"),
  };
}

// --- drawing ---------------------------------------------------------------------------------------------------

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

function options(select, names) {
  select.replaceChildren(...names.map((name) => make("option", { value: name, textContent: name })));
  return select;
}

/** A canvas's context, the canvas so many CSS pixels large and sharp on its screen. */
function canvasContext(canvas, width, height) {
  const scale = globalThis.devicePixelRatio || 1;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  Object.assign(context, { textAlign: "center", textBaseline: "middle" });
  return context;
}

/** The theme's colours: those that live.css names --ask-…, and the text's own. */
function colorsOf(root) {
  const style = getComputedStyle(root);
  const named = ["right", "right-ink", "wrong", "wrong-ink", "plain", "line", "ring", "look"];
  return Object.fromEntries([["ink", style.color], ...named.map((n) => [n, style.getPropertyValue(`--ask-${n}`)])]);
}

const FONT = "system-ui, sans-serif";
const SMALL = `10px ${FONT}`; // axes and tokens

/** A grid over all queries, x to the right and y upwards. One tab stop: arrow keys move the query. */
function gridView(p, pick) {
  const canvas = make("canvas", { "aria-hidden": "true" });
  const cell = make("span", { role: "gridcell", id: `ask-cell-${made++}`, className: "ask-cell", "aria-selected": "true" });
  const row = make("div", { role: "row" }, cell);
  const element = make("div", { role: "grid", className: "ask-grid", tabIndex: 0 }, canvas, row);
  for (const [name, value] of [["rowcount", p], ["colcount", p], ["activedescendant", cell.id]]) {
    element.setAttribute(`aria-${name}`, value);
  }
  let [query, size, margin] = [[0, 0], 0, 0];
  element.onkeydown = (event) => {
    const [x, y] = query;
    const next = {
      ArrowLeft: [x - 1, y], ArrowRight: [x + 1, y], ArrowUp: [x, y + 1], ArrowDown: [x, y - 1],
      Home: [0, y], End: [p - 1, y], PageUp: [x, p - 1], PageDown: [x, 0],
    }[event.key];
    if (!next) return;
    event.preventDefault();
    pick(next.map((n) => (n + p) % p));
  };
  canvas.onclick = (event) => {
    const at = [Math.floor((event.offsetX - margin) / size), p - 1 - Math.floor(event.offsetY / size)];
    if (at.every((n) => n >= 0 && n < p)) pick(at);
  };

  /** cells: x·p + y → {text, kind: right | wrong | plain | none}; rings: cells of the context → is it a lie? */
  function draw({ cells, rings, label, told, colors, ...more }) {
    query = more.query;
    margin = p > 10 ? 18 : 13;
    const width = element.clientWidth;
    size = Math.max(4, Math.min(32, Math.floor((width - margin) / p)));
    const [side, gap] = [size * p, size < 10 ? 0 : 1];
    const context = canvasContext(canvas, margin + side, side + 14);
    const font = Math.min(14, Math.floor(size * (p > 10 ? 0.62 : 0.7)));
    const readable = font >= 9;
    context.font = `${font}px ${FONT}`;
    cells.forEach(({ text, kind }, i) => {
      const [left, top] = [margin + Math.floor(i / p) * size, (p - 1 - (i % p)) * size];
      if (kind !== "none") {
        context.fillStyle = colors[kind];
        context.fillRect(left, top, size - gap, size - gap);
      }
      if (kind === "none") {
        context.strokeStyle = colors.line;
        context.strokeRect(left + 0.5, top + 0.5, size - gap - 1, size - gap - 1);
      }
      context.fillStyle = colors[`${kind}-ink`] ?? colors.ink;
      if (readable) context.fillText(text, left + (size - gap) / 2, top + (size - gap) / 2 + 1);
    });
    context.lineWidth = size < 14 ? 1 : 1.5;
    context.strokeStyle = colors.ring;
    for (const [i, lie] of rings) {
      context.setLineDash(lie ? [2, 2] : []);
      context.beginPath();
      const center = [margin + (Math.floor(i / p) + 0.5) * size - gap / 2, (p - 0.5 - (i % p)) * size - gap / 2];
      context.arc(...center, size * 0.42, 0, 7);
      context.stroke();
    }
    context.font = SMALL;
    context.fillStyle = colors.ink;
    const every = Math.ceil((p > 10 ? 15 : 9) / size);
    for (let n = 0; n < p; n += every) {
      context.fillText(n, margin + (n + 0.5) * size, side + 9);
      context.fillText(n, margin / 2 - 1, (p - 0.5 - n) * size + 1);
    }
    const [x, y] = query;
    Object.assign(cell.style, { left: `${margin + x * size}px`, top: `${(p - 1 - y) * size}px` });
    Object.assign(cell.style, { width: `${size - gap}px`, height: `${size - gap}px` });
    row.setAttribute("aria-rowindex", p - y);
    cell.setAttribute("aria-colindex", x + 1);
    cell.setAttribute("aria-label", told);
    element.setAttribute("aria-label", label);
  }
  return { element, draw };
}

/** A row of cells shaded by weights from 0 to 1. */
function stripView(say) {
  const canvas = make("canvas", { role: "img" });
  const element = make("div", { className: "ask-strip" }, canvas);
  let names = [];
  canvas.onpointermove = canvas.onpointerdown = (event) => {
    const name = names[Math.floor((event.offsetX / canvas.clientWidth) * names.length)];
    if (name) say(name);
  };

  /** weights: (n) numbers; texts: what the cells say, if there is room, else groups are numbered; labels: on pointing. */
  function draw({ weights, texts, group, labels, told, colors }) {
    names = labels;
    const [n, height] = [weights.length, 18];
    const width = element.clientWidth;
    const context = canvasContext(canvas, width, height);
    const step = width / n;
    context.font = SMALL;
    const fits = texts && Math.max(...texts.map((t) => context.measureText(t).width)) + 1 <= step;
    for (let i = 0; i < n; i++) {
      context.globalAlpha = Math.sqrt(weights[i]); // small weights stay visible
      context.fillStyle = colors.look;
      context.fillRect(i * step, 0, step, height);
      context.globalAlpha = 1;
      context.fillStyle = colors.ink;
      if (fits) context.fillText(texts[i], (i + 0.5) * step, height / 2 + 1);
    }
    const every = Math.ceil(15 / (step * group));
    for (let i = every - 1; texts && !fits && (i + 1) * group <= n; i += every) {
      context.fillText(i + 1, (i + 0.5) * group * step, height / 2 + 1);
    }
    context.fillStyle = colors.line;
    for (let i = 0; i < n; i += group) context.fillRect(Math.round(i * step), 0, 1, height);
    context.fillRect(width - 1, 0, 1, height);
    context.fillRect(0, 0, width, 1);
    context.fillRect(0, height - 1, width, 1);
    canvas.setAttribute("aria-label", told);
  }
  return { element, draw };
}

/** Bars of the model's probabilities, and a line across each where the predictor's stands. */
function barsView() {
  const canvas = make("canvas", { role: "img" });
  const element = make("div", { className: "ask-strip" }, canvas);

  function draw({ odds, exact, truth, told, colors }) {
    const [p, height, foot, head] = [odds.length, 84, 14, 13];
    const width = element.clientWidth;
    const context = canvasContext(canvas, width, height);
    const step = Math.min(width / p, 40);
    const full = height - foot - head;
    context.font = SMALL;
    const every = Math.ceil((p > 10 ? 15 : 9) / step);
    const best = odds.indexOf(Math.max(...odds));
    odds.forEach((odd, z) => {
      const left = z * step + 1;
      context.fillStyle = colors.plain;
      context.fillRect(left, head, step - 2, full);
      context.fillStyle = colors.look;
      context.fillRect(left, head + full * (1 - odd), step - 2, full * odd);
      context.fillStyle = colors.ink;
      context.fillRect(left - 1, head + full * (1 - exact[z]) - 1, step, 2);
      context.font = z === truth ? `bold ${SMALL}` : SMALL;
      if (z % every === 0 || z === best) context.fillText(z, left - 1 + step / 2, height - 6);
    });
    const text = `${Math.round(100 * odds[best])} %`;
    const half = context.measureText(text).width / 2;
    context.fillText(text, Math.min(Math.max((best + 0.5) * step, half), width - half), 6);
    canvas.setAttribute("aria-label", told);
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
  function draw({ shares, right, now, told, colors, ...more }) {
    steps = more.steps;
    const [width, height] = [element.clientWidth, 44];
    const context = canvasContext(canvas, width, height);
    const step = width / shares.length;
    shares.forEach((share, i) => {
      context.fillStyle = colors.plain;
      context.fillRect(i * step, 0, step - 1, height - 4);
      context.fillStyle = right[i] ? colors.right : colors.wrong;
      const top = (height - 4) * (1 - share);
      context.fillRect(i * step, top, step - 1, height - 4 - top);
      context.strokeStyle = colors.line;
      context.strokeRect(i * step + 0.5, top + 0.5, step - 2, height - 5 - top);
    });
    context.fillStyle = colors.ink;
    context.fillRect(now * step, height - 3, step - 1, 3);
    canvas.setAttribute("aria-label", told);
    canvas.title = "violet: the outlined query is answered wrong at that step";
  }
  return { element, draw };
}

// --- the model's map -------------------------------------------------------------------------------------------

/** Tokens, blocks, heads and answer of one panel's model from top to bottom, each part with its switch. */
function flowView(model, change) {
  const { depth, n_head: H } = model.config;
  const say = (text) => (reading.textContent = text);
  const reading = make("p", { className: "ask-quiet" });
  const tokens = stripView(say);
  const bars = barsView();
  const switches = []; // {parts, button, row}

  const row = (label, ...rest) => make("div", { className: "ask-part" }, make("div", { className: "ask-label" }, ...label), ...rest);
  const toggle = (text, name, parts) => {
    const button = make("button", { type: "button", role: "switch", className: "ask-switch", textContent: text });
    button.setAttribute("aria-label", name);
    button.onclick = () => change((off) => {
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
      button.onclick = () => change((off) => heads.forEach((head, i) => (i === h ? off.delete(head) : off.add(head))));
      return button;
    };
    const soFar = b < depth - 1 ? stripView(say) : null;
    const element = make("div", { className: "ask-block" },
      make("div", { className: "ask-part ask-head" }, toggle(`block ${b}`, `block ${b}`, [...heads, mlp])),
      ...heads.map((head, h) =>
        row([toggle(`head ${h}`, `block ${b}, head ${h}`, [head]), ...(H > 1 ? [only(h)] : [])], strips[h].element)),
      row([toggle("MLP", `block ${b}, MLP`, [mlp])]),
      ...(soFar ? [row(["answer so far"], soFar.element)] : []));
    return { element, strips, soFar };
  });
  const title = make("p", { className: "ask-title" });
  const all = make("button", { type: "button", textContent: "all parts on", onclick: () => change((off) => off.clear()) });
  const element = make("section", { className: "ask-flow" },
    make("div", { className: "ask-row" }, title, all),
    row(["tokens"], tokens.element),
    ...blocks.map((block) => block.element),
    row(["answer"], bars.element), reading);

  function draw({ name, off, context, query, seen, odds, exact, truth, by, colors }) {
    title.textContent = name;
    all.hidden = !off.size;
    for (const { parts, button } of switches) {
      const isOff = parts.every((part) => off.has(part));
      button.setAttribute("aria-checked", !isOff);
      button.closest(".ask-part").classList.toggle("ask-off", isOff);
    }
    const flat = [...context.flat(), ...query];
    const place = (t) => (t < 3 * context.length ? `${"xyz"[t % 3]} of example ${Math.floor(t / 3) + 1}` : `the query's ${"xy"[t % 3]}`);
    const texts = flat.map(String);
    const common = { group: 3, colors };
    tokens.draw({ ...common, weights: flat.map(() => 0), texts, labels: flat.map((n, t) => `${n}: ${place(t)}`), told: `tokens ${texts.join(" ")}` });
    blocks.forEach(({ strips, soFar }, b) => {
      const { weights, readout } = seen[b];
      strips.forEach((strip, h) => {
        const own = weights.subarray(h * flat.length, (h + 1) * flat.length);
        const labels = flat.map((n, t) => `Block ${b}, head ${h} looks at ${n}, ${place(t)}: ${percent(own[t])}.`);
        const order = [...own.keys()].sort((i, j) => own[j] - own[i]).slice(0, 3);
        const told = `block ${b}, head ${h} looks at ${order.map((t) => `${place(t)} ${percent(own[t])}`).join(", ")}`;
        strip.draw({ ...common, weights: own, labels, told });
      });
      if (!soFar) return;
      const early = softmax(readout);
      const labels = early.map((odd, z) => `Read off after block ${b}, the answer would be ${z} with ${percent(odd)}.`);
      const best = early.indexOf(Math.max(...early));
      soFar.draw({ weights: early, texts: early.map((_, z) => z), group: 1, labels, told: labels[best], colors });
    });
    const told = odds.map((odd, z) => `${z}: ${percent(odd)}`).join(", ");
    bars.draw({ odds, exact, truth, told: `${told}; ${by}: ${exact.map((odd, z) => `${z}: ${percent(odd)}`).join(", ")}`, colors });
    say(`Line across a bar: ${by}. Bold: the truth. Point at a strip to read it.`);
  }
  return { element, draw };
}

function percent(share) {
  return `${Math.round(100 * share)} %`;
}

function softmax(logits) {
  const most = Math.max(...logits);
  const powers = Array.from(logits, (logit) => Math.exp(logit - most));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

// --- the control -----------------------------------------------------------------------------------------------

function control(root, name, models, given) {
  const { p } = models[0].config;
  const numbers = [...Array(p).keys()];
  const most = Math.min(...models.map((m) => m.config.n_examples)) - 1;
  const modelOf = (panel) => models.find((m) => m.label === panel.model);
  const first = restored(given, models, { panels: [restoredPanel(models[0], {})], task: [1, 1], examples: [], query: [0, 0], by: "regression" });
  let state = restored(fromHash(name, location.hash) ?? {}, models, first);
  const answer = (x, y) => (state.task[0] * x + state.task[1] * y) % p;
  const isLie = ([x, y, z]) => z !== answer(x, y);
  const random = (list) => list[Math.floor(Math.random() * list.length)];
  const change = (fields) => {
    Object.assign(state, fields);
    // an address that no longer holds what is shown would mislead, and its link would not work twice
    if (fromHash(name, location.hash)) history.replaceState(history.state, "", location.href.split("#")[0]);
    update();
  };

  // the question
  const taskSelects = ["a", "b"].map((letter, i) => {
    const select = options(make("select"), numbers);
    select.setAttribute("aria-label", `${letter} of the task`);
    select.onchange = () => change(withTask(state.task.map((n, j) => (i === j ? Number(select.value) : n))));
    return select;
  });
  const held = make("span", { className: "ask-quiet" });
  const button = (text, onclick) => make("button", { type: "button", textContent: text, onclick });
  const surprise = button("Surprise me", () => {
    const known = state.panels.flatMap((panel) => modelOf(panel).tasks.map(String));
    const unseen = allTasks(p).filter((task) => task[0] * task[1] && !known.includes(String(task)));
    change(drawn(random(unseen.length ? unseen : allTasks(p))));
  });
  const renew = button("New examples", () => change(drawn(state.task)));
  const link = button("Link to this", async () => {
    history.replaceState(history.state, "", toHash(name, state));
    link.textContent = "The address holds it";
    await navigator.clipboard?.writeText(location.href).then(() => (link.textContent = "Copied"), () => {});
    setTimeout(() => (link.textContent = "Link to this"), 2000);
  });
  const shots = make("input", { type: "range", min: 0, oninput: () => change({ shots: Number(shots.value) }) });
  const shotsText = make("span");
  const list = make("ol", { className: "ask-examples" });
  list.setAttribute("aria-label", "examples; pressing one makes it lie");
  const own = make("textarea", { rows: 3, spellcheck: false, oninput: typed });
  own.setAttribute("aria-label", "own examples: x y z of each");
  const problem = make("p", { role: "alert", className: "ask-problem" });
  const status = make("p", { role: "status" });

  const withTask = (task) => {
    const lies = state.examples.map(isLie);
    const examples = state.examples.map(([x, y, z], i) => [x, y, lies[i] ? z : (task[0] * x + task[1] * y) % p]);
    return { task, examples };
  };

  /** Examples of a task with training inputs of the first model, and as many in front of the query as before. */
  function drawn(task) {
    const pairs = Array.from({ length: most }, () => random(modelOf(state.panels[0]).pairs));
    const examples = pairs.map(([x, y]) => [x, y, (task[0] * x + task[1] * y) % p]);
    return { task, examples, shots: state.examples.length ? state.shots : most };
  }

  /** Take the examples from the text; the task becomes one that agrees with them, if there is one. */
  function typed() {
    const found = (own.value.match(/-?\d+/g) ?? []).map(Number);
    const wrong = found.find((n) => n < 0 || n >= p);
    problem.textContent =
      wrong !== undefined ? `${wrong} is not in 0 … ${p - 1}.`
      : found.length > 3 * most ? `At most ${most} examples fit in front of the query.`
      : found.length % 3 ? "An example is three numbers, x y z; the last is not whole yet."
      : "";
    if (problem.textContent) return;
    const examples = Array.from({ length: found.length / 3 }, (_, i) => found.slice(3 * i, 3 * i + 3));
    const agrees = ([a, b]) => examples.every(([x, y, z]) => (a * x + b * y) % p === z);
    const task = agrees(state.task) ? state.task : (allTasks(p).find(agrees) ?? state.task);
    change({ task, examples, shots: examples.length });
  }

  function lie(i) {
    const examples = state.examples.map((e) => [...e]);
    const [x, y] = examples[i];
    examples[i][2] = isLie(examples[i]) ? answer(x, y) : (answer(x, y) + 1 + (i % (p - 1))) % p;
    change({ examples });
  }

  // the cards: a model or two, the truth, a predictor
  const cards = make("div", { className: "ask-cards" });
  cards.style.setProperty("--card", `${Math.min(330, Math.max(150, 15 * p + 20))}px`);
  const pick = (query) => change({ query });
  const card = (heading, ...below) => {
    const grid = gridView(p, pick);
    const count = make("p", { className: "ask-count" });
    const element = make("section", { className: "ask-card" }, make("div", { className: "ask-row" }, ...heading), grid.element, count, ...below);
    return { element, grid, count };
  };
  const truth = card([make("p", { className: "ask-title", textContent: "the truth" })]);
  const by = options(make("select", { onchange: () => change({ by: by.value }) }), SHOWN_PREDICTORS);
  by.setAttribute("aria-label", "exact predictor");
  const predictor = card([by]);
  const compare = button("Compare with another model", () => {
    const other = models.find((m) => m.label !== state.panels[0].model) ?? models[0];
    change({ panels: [...state.panels, restoredPanel(other, {})] });
  });
  const single = button("Remove the second model", () => change({ panels: state.panels.slice(0, 1) }));
  const panelCards = [0, 1].map((i) => {
    const select = options(make("select"), models.map((m) => m.label));
    select.setAttribute("aria-label", `${["first", "second"][i]} model`);
    const changed = (panel) => change({ panels: state.panels.map((old, j) => (i === j ? panel : old)) });
    select.onchange = () => changed(restoredPanel(models.find((m) => m.label === select.value), {}));
    const step = make("input", { type: "range", min: 0 });
    step.oninput = () => changed({ ...state.panels[i], step: stepsOf(modelOf(state.panels[i]))[step.value] });
    step.setAttribute("aria-label", "training step");
    const stepText = make("span");
    const steps = make("label", { className: "ask-steps" }, step, stepText);
    const history = historyView((at) => changed({ ...state.panels[i], step: at }));
    const every = button("Ask at every step", () => askEveryStep(i));
    return { ...card([select], steps, every, history.element), select, step, stepText, steps, every, history, asked: null, flow: null, model: null };
  });
  const flows = make("div", { className: "ask-flows" });
  const explained = make("table", { className: "ask-explained" });
  const told = "Who answers like this? Of the queries that a predictor is certain about, those to which the model gives the same answer:";

  root.replaceChildren(
    make("div", { className: "ask-row" }, make("span", {}, "z = ", taskSelects[0], " x + ", taskSelects[1], ` y mod ${p}`), held, surprise, renew, link),
    make("label", { className: "ask-row" }, "examples", shots, shotsText),
    list,
    make("details", {}, make("summary", { textContent: "Type your own examples" }), own, problem),
    status, cards,
    make("div", { className: "ask-row" }, compare, single),
    flows, make("p", { textContent: told }), explained);
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", "Ask the model");
  // JupyterLab takes single keys as its commands (d d deletes a cell) unless the focused element itself forbids it.
  root.addEventListener("focusin", (event) => (event.target.dataset.lmSuppressShortcuts = "true"));

  const answered = []; // a panel's last question and what came of it, for a change that leaves it as it is
  function answersTo(i, transformer) {
    const { shots, examples } = state;
    const key = `${state.panels[i].step} ${question(i)}`;
    if (answered[i]?.key !== key) {
      const read = transformer.read(examples.flat(), state.panels[i].off);
      answered[i] = { key, read, answers: answersOf(transformer.answers(read, shots, numbers, numbers)) };
    }
    return answered[i];
  }

  const question = (i) => JSON.stringify([state.panels[i].model, [...state.panels[i].off], state.examples, state.shots]);

  /** Put the question to every checkpoint; the answers stay until another question is asked. */
  async function askEveryStep(i) {
    const [card, key, off] = [panelCards[i], question(i), state.panels[i].off];
    const model = modelOf(state.panels[i]);
    const steps = stepsOf(model);
    const answers = [];
    for (const step of steps) {
      card.every.textContent = `Asking step ${step.toLocaleString("en")} …`;
      try {
        const transformer = await load(model, step);
        const read = transformer.read(state.examples.flat(), off);
        answers.push(answersOf(transformer.answers(read, state.shots, numbers, numbers)));
      } catch (error) {
        status.textContent = `The weights could not be loaded: ${error.message}.`;
        break;
      }
      await new Promise((resolve) => setTimeout(resolve)); // let the page breathe
      if (question(i) !== key) break;
    }
    card.every.textContent = "Ask at every step";
    if (answers.length < steps.length) return;
    card.asked = { key, steps, answers };
    redraw();
  }

  const answersOf = (logits) => Array.from({ length: p * p }, (_, q) => argmax(logits.subarray(q * p, (q + 1) * p)));

  let turn = 0;
  async function update() {
    const mine = ++turn;
    showState();
    let transformers;
    try {
      transformers = await Promise.all(state.panels.map((panel) => load(modelOf(panel), panel.step)));
    } catch (error) {
      if (mine === turn) status.textContent = `The weights could not be loaded: ${error.message}.`;
      return;
    }
    if (mine === turn) draw(asked(transformers));
  }

  /** The controls as the state has them. */
  function showState() {
    taskSelects.forEach((select, i) => (select.value = state.task[i]));
    const outside = state.panels.filter((panel) => !modelOf(panel).tasks.some((task) => String(task) === String(state.task)));
    held.textContent =
      outside.length === state.panels.length ? "held out from training"
      : outside.length ? `held out from ${outside[0].model}` : "a pre-training task";
    shots.max = state.examples.length;
    shots.value = state.shots;
    shotsText.textContent = `${state.shots} of ${state.examples.length} in front of the query`;
    shots.setAttribute("aria-valuetext", shotsText.textContent);
    showExamples();
    if (document.activeElement !== own) {
      own.value = state.examples.map((e) => e.join(" ")).join("\n");
      problem.textContent = "";
    }
    by.value = state.by;
    compare.hidden = state.panels.length > 1;
    single.hidden = !compare.hidden;
    const shown = panelCards.slice(0, state.panels.length);
    const wanted = [...shown, truth, predictor].map((c) => c.element);
    if (wanted.length !== cards.children.length) cards.replaceChildren(...wanted);
    shown.forEach((card, i) => {
      const model = modelOf(state.panels[i]);
      const steps = stepsOf(model);
      card.select.value = model.label;
      card.steps.hidden = card.every.hidden = steps.length < 2;
      card.step.max = steps.length - 1;
      card.step.value = steps.indexOf(state.panels[i].step);
      card.stepText.textContent = `step ${state.panels[i].step.toLocaleString("en")}`;
      card.step.setAttribute("aria-valuetext", card.stepText.textContent);
      if (card.model === model) return;
      card.model = model;
      card.flow = flowView(model, (edit) => {
        const off = new Set(state.panels[i].off);
        edit(off);
        change({ panels: state.panels.map((panel, j) => (i === j ? { ...panel, off } : panel)) });
      });
    });
    const maps = shown.map((card) => card.flow.element);
    if (maps.length !== flows.children.length || maps.some((map, i) => map !== flows.children[i])) flows.replaceChildren(...maps);
  }

  /** The examples as buttons; those that stay are kept, and with them the focus. */
  function showExamples() {
    while (list.children.length > state.examples.length) list.lastChild.remove();
    while (list.children.length < state.examples.length) {
      const i = list.children.length;
      list.append(make("li", {}, button("", () => lie(i))));
    }
    state.examples.forEach((example, i) => {
      const [x, y, z] = example;
      const chip = list.children[i].firstChild;
      chip.textContent = `${x} ${y} → ${z}`;
      chip.className = isLie(example) ? "ask-lie" : "";
      chip.setAttribute("aria-pressed", isLie(example));
      chip.setAttribute("aria-label", `example ${i + 1}: ${x} ${y} gives ${z}${isLie(example) ? ", a lie" : ""}`);
      chip.title = isLie(example) ? "a lie: press to mend it" : "press to make it lie";
      list.children[i].classList.toggle("ask-unread", i >= state.shots);
    });
  }

  /** What models and predictors answer to the state's question. */
  function asked(transformers) {
    const context = state.examples.slice(0, state.shots);
    const queries = allTasks(p); // all pairs, x·p + y
    const panels = transformers.map((transformer, i) => {
      const { read, answers } = answersTo(i, transformer);
      const seen = [];
      const keep = (b, weights, readout) => (seen[b] = { weights, readout });
      const own = transformer.answers(read, state.shots, [state.query[0]], [state.query[1]], keep);
      return { answers, seen, odds: softmax(own) };
    });
    const exact = Object.fromEntries(SHOWN_PREDICTORS.map((name) => {
      const predict = PREDICTORS[name](p, context, modelOf(state.panels[0]).tasks);
      return [name, queries.map(([x, y]) => predict(x, y))];
    }));
    return { context, panels, exact, truth: queries.map(([x, y]) => answer(x, y)) };
  }

  let last = null; // what was drawn, for another width or theme
  function draw(results) {
    last = results;
    const { context, panels, exact, truth: right } = results;
    const colors = colorsOf(root);
    const [x, y] = state.query;
    const q = x * p + y;
    const rings = new Map(); // pair → did any example of it lie?
    for (const [u, v, z] of context) rings.set(u * p + v, rings.get(u * p + v) || isLie([u, v, z]));
    const drawGrid = (card, label, answers, kind) => {
      const cells = answers.map((z, i) => ({ text: z ?? "·", kind: kind(z, i) }));
      const told = { right: ", right", wrong: ", wrong", plain: "", none: "" }[cells[q].kind];
      const says = answers[q] === null ? "cannot tell" : `${answers[q]}${told}`;
      card.grid.draw({ cells, rings, query: state.query, label, told: `x ${x}, y ${y}: ${says}`, colors });
    };
    const judged = (z, i) => (z === null ? "none" : z === right[i] ? "right" : "wrong");
    const count = (answers) => answers.filter((z, i) => z === right[i]).length;
    const names = state.panels.map(({ model, step }, i) =>
      state.panels.length > 1 && state.panels[0].model === state.panels[1].model
        ? `${model}, ${["left", "right"][i]}` : model);

    panels.forEach(({ answers, seen, odds }, i) => {
      const off = state.panels[i].off;
      const card = panelCards[i];
      card.count.textContent = `${count(answers)} of ${p * p} right${off.size ? `, ${off.size} ${off.size > 1 ? "parts" : "part"} off` : ""}`;
      drawGrid(card, `${names[i]}: ${card.count.textContent}`, answers, judged);
      card.flow.draw({ name: names[i], off, context, query: state.query, seen, odds, exact: exact[state.by][q], truth: right[q], by: state.by, colors });
    });
    panelCards.forEach(({ asked, history, every }, i) => {
      history.element.hidden = !(state.panels[i] && asked?.key === question(i));
      if (history.element.hidden) return;
      every.hidden = true;
      const shares = asked.answers.map((each) => count(each) / p ** 2);
      const rightThere = asked.answers.map((each) => each[q] === right[q]);
      const told = asked.steps.map((s, j) => `step ${s}: ${percent(shares[j])} right, (${x}, ${y}) ${rightThere[j] ? "right" : "wrong"}`).join("; ");
      history.draw({ steps: asked.steps, shares, right: rightThere, now: asked.steps.indexOf(state.panels[i].step), told, colors });
    });
    drawGrid(truth, "the truth", right, () => "plain");
    truth.count.textContent = `z = ${state.task[0]}x + ${state.task[1]}y mod ${p}`;
    const told = exact[state.by].map(certain);
    const open = told.filter((z) => z === null).length;
    predictor.count.textContent = `${count(told)} of ${p * p} right${open ? `, ${open} open` : ""}`;
    drawGrid(predictor, `${state.by}: ${predictor.count.textContent}`, told, judged);

    const verdicts = panels.map(({ answers, odds }, i) =>
      `${names[i]}: ${count(answers)} of ${p * p} queries right; at (${x}, ${y}) it says ${answers[q]} (${percent(odds[answers[q]])}).`);
    const seen = `After ${context.length} example${context.length === 1 ? "" : "s"}.`;
    status.textContent = [seen, ...verdicts, `The truth there is ${right[q]}.`].join(" ");
    drawExplained(panels, exact, names);
  }

  /** Of the queries that a predictor is certain about, how many get its answer from the model. */
  function drawExplained(panels, exact, names) {
    const line = (tag, texts) => make("tr", {}, ...texts.map((text, i) => make(i ? tag : "th", { textContent: text, scope: i ? undefined : "row" })));
    const rows = SHOWN_PREDICTORS.map((name) => {
      const told = exact[name].map(certain);
      const sure = told.filter((z) => z !== null).length;
      const agreeing = panels.map(({ answers }) => answers.filter((z, i) => z === told[i]).length);
      const row = line("td", [name, sure, ...agreeing]);
      row.classList.toggle("ask-chosen", name === state.by);
      return row;
    });
    explained.replaceChildren(
      make("thead", {}, line("th", ["predictor", "certain", ...names])), make("tbody", {}, ...rows));
  }

  const redraw = () => last && draw(last);
  new ResizeObserver(redraw).observe(root);
  new MutationObserver(redraw).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  addEventListener("hashchange", () => {
    const linked = fromHash(name, location.hash);
    if (!linked) return;
    state = restored(linked, models, state);
    root.scrollIntoView();
    update();
  });
  update();
}

function argmax(numbers) {
  return numbers.indexOf(Math.max(...numbers));
}
