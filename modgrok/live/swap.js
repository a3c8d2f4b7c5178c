// The query swap: a model answers one query while some of its heads look for another one.
// The left grid chooses the query (x, y), the right grid the donor (x′, y′), whose query vectors the heads receive.

/** Fill the elements that wait; the arguments are those that modgrok.live.swap writes. */
function startSwap(models, questions) {
  for (const root of document.querySelectorAll('.modgrok-live[data-name="swap"]:empty')) {
    whenNear(root, "swap", () => swapControl(root, models, questions));
  }
}

/** The query vectors at y of all p² queries, block by block, each p² × C. */
function donatedQueries(transformer, reading) {
  const { p, C } = transformer;
  const numbers = [...Array(p).keys()];
  const donated = [];
  transformer.answers(reading, numbers, numbers, null, (b, q) => (donated[b] = q.slice(p * C, (p + p * p) * C)));
  return donated;
}

/**
 * Logits of a query for each donor x′·p + y′, n × p: at y the heads [block, number] have the donor's query vectors.
 * Equal to modgrok.analysis.mechanisms.swapped_logits. Here positions have turned the vectors already, but
 * y and y′ stand at the same position. keep: as for `Transformer.answers`, for the last donor.
 */
function swappedLogits(transformer, reading, [x, y], donors, heads, donated, keep = null) {
  const { C, D } = transformer;
  const replace = (b, q) => {
    for (const [, h] of heads.filter(([block]) => block === b)) {
      donors.forEach((donor, r) => {
        const first = donor * C + h * D;
        q.set(donated[b].subarray(first, first + D), (1 + r) * C + h * D); // row 0 is x
      });
    }
  };
  return transformer.answers(reading, [x], donors.map(() => y), keep, replace);
}

/** The first example of a donor's ratio whose y is not 0; undefined if there is none, or y′ is 0. */
function matchingExample(examples, [x, y], p) {
  return y ? examples.find(([u, v]) => v && (u * y - v * x) % p === 0) : undefined;
}

/** (y / yⱼ)·zⱼ for an example j; null without one, or if y is 0. */
function predictedAnswer(example, y, p) {
  if (!example || !y) return null;
  const [, v, z] = example;
  return [...Array(p).keys()].find((answer) => (answer * v) % p === (y * z) % p);
}

function swapControl(root, models, questions) {
  const engine = new Engine(models);
  const { p } = engine;
  const pairs = allTasks(p);
  const state = {};
  const change = (fields) => {
    Object.assign(state, fields);
    update();
  };
  /** A model with its own question, and nothing exchanged. */
  const startModel = (model) => {
    const question = questions[model.label];
    change({ ...question, panel: validPanel(model).panel, donor: question.query, group: 0 });
  };

  const modelSelect = options(make("select", { "aria-label": "model" }), models.map(({ label }) => label));
  modelSelect.onchange = () => startModel(models[modelSelect.selectedIndex]);
  const groupSelect = make("select", { "aria-label": "heads that look for the other query" });
  groupSelect.onchange = () => change({ group: groupSelect.selectedIndex });
  const examples = make("ol", { className: "ask-examples", "aria-label": "examples" });
  const usual = cardView(p, (query) => change({ query, donor: query }), titleView("The question (x, y)"));
  const swapped = cardView(p, (donor) => change({ donor }), titleView("The heads look for (x′, y′)"));
  const status = make("p", { role: "status" });
  const strips = make("div");
  const pointed = make("p", { className: "ask-quiet" });
  const signs = { right: "right, or as predicted", wrong: "another number", plain: "no prediction", ring: "an example" };
  root.replaceChildren(
    make("div", { className: "ask-row" }, modelSelect, "exchanged:", groupSelect),
    examples,
    legendView("Click a cell of the right grid: its ratio is what the heads look for.", signs),
    ...[cardsView(p, [usual, swapped]), status, strips, pointed],
  );
  nameControl(root, "exchange what heads look for");

  function ask([transformer]) {
    const { panel, query, donor, examples: context, groups, group } = state;
    const { reading, answers } = engine.ask("usual", panel, transformer, context);
    const donated = engine.remembered("donated", panel.model, () => donatedQueries(transformer, reading));
    const swap = (donors, keep) =>
      swappedLogits(transformer, reading, query, donors, groups[group].heads, donated, keep);
    const seen = []; // block → where the y looks
    swap([donor[0] * p + donor[1]], (b, weights) => (seen[b] = weights));
    return { answers, swappedAnswers: engine.answersOf(swap([...pairs.keys()])), seen };
  }

  function draw({ answers, swappedAnswers, seen }, looks) {
    const { query, donor, task, examples: context } = state;
    const [rings, truth] = [ringsOf(context, task, p), pairs.map(([x, y]) => solution(task, x, y, p))];
    const predictions = pairs.map((pair) => predictedAnswer(matchingExample(context, pair, p), query[1], p));
    const countEqual = (list, expected) => list.filter((z, q) => z === expected[q]).length;
    write(usual.count, `${countEqual(answers, truth)} of ${p * p} right, with nothing exchanged`);
    const nPredicted = predictions.filter((z) => z !== null).length;
    write(
      swapped.count,
      `answers to ${query.join(" ")}: ${countEqual(swappedAnswers, predictions)} of ${nPredicted} as predicted`,
    );
    const common = { p, rings, looks };
    drawAnswers(usual.grid, { ...common, answers, truth, query, label: usual.count.textContent });
    const label = swapped.count.textContent;
    drawAnswers(swapped.grid, { ...common, answers: swappedAnswers, truth: predictions, query: donor, label });
    const example = matchingExample(context, donor, p);
    [...examples.children].forEach((item, j) => item.classList.toggle("ask-matching", context[j] === example));
    const indexOf = ([x, y]) => x * p + y;
    const prediction = predictions[indexOf(donor)];
    const story =
      prediction === null
        ? "Nothing is predicted: no example has that ratio, or a y is 0."
        : `Example ${example[0]} ${example[1]} → ${example[2]} has that ratio: predicted is ` +
          `(${query[1]} / ${example[1]}) · ${example[2]} = ${prediction}.`;
    const outcome = `The model says ${swappedAnswers[indexOf(donor)]}; with nothing exchanged, ${answers[indexOf(query)]}.`;
    write(status, `Asked ${query.join(" ")}, the heads look for ${donor.join(" ")}. ${story} ${outcome}`);
    const texts = [...context.flat(), ...query].map(String);
    state.strips.forEach(({ strip, block, h }) => {
      const weights = seen[block].subarray(h * texts.length, (h + 1) * texts.length);
      const describe = (t) => `Head ${block}.${h} looks at ${texts[t]}: ${percent(weights[t])}.`;
      strip.draw({ weights, texts, group: 3, label: describe, description: describe(argmax(weights)), looks });
    });
  }

  const fail = (sentence) => write(status, sentence);
  const cycle = askAndDraw(root, { load: () => engine.load([state.panel]), ask, draw, fail });

  function update() {
    const { panel, groups, group } = state;
    modelSelect.value = panel.model;
    options(groupSelect, groups.map(({ name }) => name)).selectedIndex = group;
    const texts = state.examples.map(([x, y, z]) => `${x} ${y} → ${z}`);
    examples.replaceChildren(...texts.map((text) => make("li", { className: "ask-example", textContent: text })));
    state.strips = groups[group].heads.map(([block, h]) => ({ block, h, strip: stripView((text) => write(pointed, text)) }));
    const rows = state.strips.map(({ block, h, strip }) =>
      make("div", { className: "ask-part" }, make("div", {}, `head ${block}.${h} looks at`), strip.element),
    );
    strips.replaceChildren(...rows);
    cycle.forgetLooks(); // the strips are new
    cycle.update();
  }
  startModel(models[0]);
}
