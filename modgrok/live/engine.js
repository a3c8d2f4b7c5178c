// The engine: it loads models and asks them, and the exact predictors, all p² queries. Nothing is computed twice.

const HTML_ROOT = document.documentElement.dataset.content_root; // Sphinx's; undefined outside the book
const IN_BOOK = HTML_ROOT !== undefined;

const loaded = (globalThis.modgrokLoaded ??= new Map()); // run and step → promise of its Transformer, for all controls

/** The model at a checkpoint, whose weights are in the page or in a script beside it (file:// allows no fetch). */
function load(model, step) {
  const key = `${model.name}-${step}`;
  const read = async () => {
    let text = model.steps.find((checkpoint) => checkpoint.step === step).weights;
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
    const script = document.createElement("script");
    script.src = source;
    script.onload = resolve;
    script.onerror = () => reject(new Error(`${source} is missing`));
    document.head.append(script);
    script.remove();
  });
}

/** The models of one control, all of one p: each is described as modgrok.live does it. */
class Engine {
  constructor(models) {
    this.models = models;
    this.p = models[0].config.p;
    this.numbers = [...Array(this.p).keys()];
    this.results = new Map(); // place → the last {question, value}
  }

  modelOf(panel) {
    return this.models.find((model) => model.label === panel.model);
  }

  load(panels) {
    return Promise.all(panels.map((panel) => load(this.modelOf(panel), panel.step)));
  }

  /** The value that `compute` gave for this question at this place, or gives now, from the one before. */
  remembered(place, question, compute) {
    const last = this.results.get(place);
    if (last?.question === question) return last.value;
    const value = compute(last?.value);
    this.results.set(place, { question, value });
    return value;
  }

  /** What identifies the question to a panel, apart from its step. */
  question({ model, off }, context) {
    return JSON.stringify([model, [...off], context]);
  }

  /** A panel's model after it read a context, and its answers to all queries: {transformer, reading, logits, answers}. */
  ask(place, panel, transformer, context) {
    return this.remembered(place, `${panel.step} ${this.question(panel, context)}`, (last) => {
      const reading = transformer.read(context.flat(), panel.off, last?.reading);
      const logits = transformer.answers(reading, this.numbers, this.numbers);
      return { transformer, reading, logits, answers: this.answersOf(logits) };
    });
  }

  /** The answer to each query, x·p + y, from logits p² × p. */
  answersOf(logits) {
    const { p } = this;
    return Array.from({ length: p * p }, (_, q) => argmax(logits.subarray(q * p, (q + 1) * p)));
  }

  /** What each predictor says after a context: name → {odds, certain}, lists over all queries. */
  askPredictors(tasks, context) {
    return this.remembered("predictors", JSON.stringify([tasks, context]), () => {
      const results = new Map(); // two names have the same function
      for (const predictor of new Set(Object.values(PREDICTORS))) {
        const predict = predictor(this.p, context, tasks);
        const odds = allTasks(this.p).map(([x, y]) => predict(x, y));
        results.set(predictor, { odds, certain: odds.map(certain) });
      }
      return Object.fromEntries(SHOWN_PREDICTORS.map((name) => [name, results.get(PREDICTORS[name])]));
    });
  }

  /** The answers at every checkpoint; null once `isCurrent` is false. `report` is called with each step. */
  async askEveryStep(panel, context, report, isCurrent) {
    const [model, answers] = [this.modelOf(panel), []];
    for (const step of stepsOf(model)) {
      report(step);
      const transformer = await load(model, step);
      const reading = transformer.read(context.flat(), panel.off);
      answers.push(this.answersOf(transformer.answers(reading, this.numbers, this.numbers)));
      await new Promise((resolve) => setTimeout(resolve)); // let the page breathe
      if (!isCurrent()) return null;
    }
    return answers;
  }
}

/** The index of the largest number. */
function argmax(numbers) {
  return numbers.indexOf(Math.max(...numbers));
}

function softmax(logits) {
  const top = Math.max(...logits);
  const powers = Array.from(logits, (logit) => Math.exp(logit - top));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

/**
 * Ask, then draw: of several questions only the latest is drawn, and it is drawn again for another width or theme.
 * load() gives a promise, ask(loaded) the results, draw(results, looks) shows them, drawRest(results, looks) in a later
 * frame what takes a phone as long again; fail(sentence) says what went wrong.
 */
function askAndDraw(root, { load, ask, draw, drawRest, fail }) {
  let [turn, results, looks, isRestWaiting] = [0, null, null, false];
  const nextFrame = () => new Promise(requestAnimationFrame);

  async function show() {
    looks ??= looksOf(root);
    draw(results, looks);
    if (!drawRest || isRestWaiting) return;
    isRestWaiting = true;
    await nextFrame();
    await nextFrame();
    isRestWaiting = false;
    looks ??= looksOf(root);
    if (results) drawRest(results, looks); // else another question is on its way
  }
  function redraw() {
    looks = null; // widths or colours are others now
    if (results) show();
  }
  async function update() {
    const ownTurn = ++turn;
    results = null;
    let transformers;
    try {
      transformers = await load();
    } catch (error) {
      if (ownTurn === turn) fail(`The weights could not be loaded: ${error.message}.`);
      return;
    }
    if (ownTurn !== turn) return;
    results = ask(transformers);
    show();
  }
  onChangedLooks(root, redraw);
  return { update, redraw, forgetLooks: () => (looks = null) };
}
