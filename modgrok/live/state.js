// What the control can be asked: models and their weights, and the state, from and to the page's address.
//
// state: {panels: [{model, step, off}], task: [a, b], examples: [[x, y, z]], shots, query: [x, y], by}, where model is a
// label, off a Set of the parts switched off and by the name of a predictor.

const HTML_ROOT = document.documentElement.dataset.content_root; // Sphinx's; undefined outside the book
const SHOWN_PREDICTORS = Object.keys(PREDICTORS);

const loaded = (globalThis.modgrokLoaded ??= new Map()); // run and step → promise of its Transformer, for all controls

/** The z of a task at (x, y). */
function solution([a, b], x, y, p) {
  return (a * x + b * y) % p;
}

function isFalse([x, y, z], task, p) {
  return z !== solution(task, x, y, p);
}

/** Examples of which the i-th lies, or, if it did, no longer does. */
function turned(examples, i, task, p) {
  const [x, y] = examples[i];
  const z = solution(task, x, y, p);
  const other = isFalse(examples[i], task, p) ? z : (z + 1 + (i % (p - 1))) % p;
  return examples.map((example, j) => (i === j ? [x, y, other] : [...example]));
}

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
    const names = [part, block, ...(part.endsWith("mlp") ? [] : [`${block}.attn`])];
    return [...off].some((name) => names.includes(name));
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
