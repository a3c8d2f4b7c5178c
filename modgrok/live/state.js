// What a control shows, as plain data: read from an address or from typed text, checked, and written back.
//
// state: {panels: [{model, step, off}], task: [a, b], examples: [[x, y, z]], shots, query: [x, y], by}, where model is a
// label, off a Set of the parts switched off and by the name of a predictor.

const SHOWN_PREDICTORS = Object.keys(PREDICTORS);

/** The z of a task at (x, y). */
function solution([a, b], x, y, p) {
  return (a * x + b * y) % p;
}

function isLie([x, y, z], task, p) {
  return z !== solution(task, x, y, p);
}

/** Examples of which the i-th becomes a lie, or, if it was one, true. */
function withLieTurned(examples, i, task, p) {
  const [x, y] = examples[i];
  const z = solution(task, x, y, p);
  const newZ = isLie(examples[i], task, p) ? z : (z + 1 + (i % (p - 1))) % p;
  return examples.map((example, j) => (i === j ? [x, y, newZ] : [...example]));
}

/** The same examples for another task: true ones become true for it, lies keep their z. */
function withTask(examples, oldTask, task, p) {
  return examples.map((example) => {
    const [x, y] = example;
    return isLie(example, oldTask, p) ? [...example] : [x, y, solution(task, x, y, p)];
  });
}

/** Of all tasks one that agrees with most of the examples: the current one, if no other agrees with more. */
function bestTask(examples, currentTask, p) {
  const countLies = (task) => examples.filter((example) => isLie(example, task, p)).length;
  return allTasks(p).reduce((best, task) => (countLies(task) < countLies(best) ? task : best), currentTask);
}

/** Examples from typed text, or the sentence that says what is wrong with it: {examples, problem}. */
function readExamples(text, p, limit) {
  const words = text.split(/[\s,;:()→/]+/).filter((word) => word);
  const numbers = words.map(Number);
  const wrong = words.find((word, i) => !/^\d+$/.test(word) || numbers[i] >= p);
  const problem =
    wrong !== undefined
      ? `“${wrong}” is not a number in 0 … ${p - 1}.`
      : numbers.length > 3 * limit
        ? `At most ${limit} examples fit in front of the query.`
        : numbers.length % 3
          ? "An example is three numbers, x y z; the last is not whole yet."
          : "";
  const examples = Array.from({ length: numbers.length / 3 }, (_, i) => numbers.slice(3 * i, 3 * i + 3));
  return { examples, problem };
}

/** The checkpoints that can be loaded here: in the book all, elsewhere those that the page holds. */
function stepsOf(model) {
  return model.steps.filter((checkpoint) => checkpoint.weights || IN_BOOK).map((checkpoint) => checkpoint.step);
}

function partsOf({ config }) {
  const heads = (b) => Array.from({ length: config.n_head }, (_, h) => `blocks.${b}.head.${h}`);
  return Array.from({ length: config.depth }, (_, b) => [...heads(b), `blocks.${b}.mlp`]).flat();
}

/**
 * A valid state from a wish that may hold anything, such as a link's: what is missing or not valid is taken from
 * `fallback`. `refused` names the fields that were given and are not valid.
 */
function validState(wish, models, fallback) {
  const { p } = models[0].config;
  const limit = Math.min(...models.map((model) => model.config.n_examples)) - 1;
  const isBelow = (end) => (n) => Number.isInteger(n) && n >= 0 && n < end;
  const isVector = (list, length) => Array.isArray(list) && list.length === length && list.every(isBelow(p));
  const refused = [];
  const choose = (field, isValid, substitute) => {
    if (wish[field] === undefined) return substitute;
    if (isValid(wish[field])) return wish[field];
    refused.push(field);
    return substitute;
  };
  const areExamples = (list) => list.length <= limit && list.every((example) => isVector(example, 3));
  const examples = choose("examples", areExamples, fallback.examples);
  const hasOwnExamples = wish.examples !== undefined && examples === wish.examples;
  const isShots = isBelow(examples.length + 1);
  const substituteShots = !hasOwnExamples && isShots(fallback.shots) ? fallback.shots : examples.length;
  const state = {
    panels: validPanels(wish.panels ?? [], models, refused) ?? fallback.panels,
    task: choose("task", (task) => isVector(task, 2), fallback.task),
    examples: examples.map((example) => [...example]),
    shots: choose("shots", isShots, substituteShots),
    query: choose("query", (query) => isVector(query, 2), fallback.query),
    by: choose("by", (predictor) => SHOWN_PREDICTORS.includes(predictor), fallback.by),
  };
  return { state, refused };
}

/** One or two panels of models that are here; null if there is none. Names what is refused. */
function validPanels(wishes, models, refused) {
  const panels = wishes.slice(0, 2).flatMap((wish) => {
    const model = models.find(({ label }) => label === wish.model);
    if (!model) {
      refused.push("model");
      return [];
    }
    const { panel, refused: refusedOfPanel } = validPanel(model, wish);
    refused.push(...refusedOfPanel);
    return [panel];
  });
  return panels.length ? panels : null;
}

/** A panel of a model at a step without some parts, or without what is not valid of that. */
function validPanel(model, { step, off = [] } = {}) {
  const [steps, parts] = [stepsOf(model), partsOf(model)];
  const namesOf = (part) => {
    const block = part.split(".", 2).join(".");
    return [part, block, ...(part.endsWith("mlp") ? [] : [`${block}.attn`])];
  };
  const isPart = (name) => parts.some((part) => namesOf(part).includes(name));
  const refused = [];
  if (step !== undefined && !steps.includes(step)) refused.push("step");
  if (![...off].every(isPart)) refused.push("off");
  const panel = {
    model: model.label,
    step: steps.includes(step) ? step : steps.at(-1),
    off: new Set(parts.filter((part) => [...off].some((name) => namesOf(part).includes(name)))),
  };
  return { panel, refused };
}

/** A state as the text behind # in an address, and back: fields that are missing there are undefined. */
function toHash(name, state) {
  const fields = new URLSearchParams();
  for (const { model, step, off } of state.panels) {
    fields.append("model", model);
    fields.append("step", step);
    fields.append("off", [...off].join(" "));
  }
  fields.append("task", state.task.join("."));
  fields.append("examples", state.examples.map((example) => example.join(".")).join(" "));
  fields.append("shots", state.shots);
  fields.append("query", state.query.join("."));
  fields.append("by", state.by);
  return `#${name}?${fields}`;
}

function fromHash(name, hash) {
  if (!hash.startsWith(`#${name}?`)) return null;
  const fields = new URLSearchParams(hash.slice(name.length + 2));
  const words = (text) => (text ? text.split(" ") : []);
  const numbers = (text) => text.split(".").map((word) => (/^\d+$/.test(word) ? Number(word) : NaN));
  const field = (key, read) => (fields.has(key) ? read(fields.get(key)) : undefined);
  const [steps, off] = [fields.getAll("step"), fields.getAll("off")];
  const stepOf = (text) => (text === undefined || text === "last" ? undefined : Number(text));
  return {
    panels: fields.getAll("model").map((model, i) => ({ model, step: stepOf(steps[i]), off: words(off[i]) })),
    task: field("task", numbers),
    examples: field("examples", (text) => words(text).map(numbers)),
    shots: field("shots", Number),
    query: field("query", numbers),
    by: field("by", String),
  };
}

/** The sentence about a link whose values are not valid here; empty if all are. */
function refusal(refused) {
  const words = { by: "predictor", off: "part that is off" };
  const names = [...new Set(refused)].map((field) => words[field] ?? field);
  return names.length ? `Not valid here, so this part of the link is ignored: ${names.join(", ")}.` : "";
}
