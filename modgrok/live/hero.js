// The front page's question: the same examples for two models, their answers side by side.
// The answers to the true examples come with the page, for every number of shots; weights load for a lie.

/** Fill the element that waits; the arguments are those that modgrok.live.hero writes. */
function startHero(models, question, page) {
  for (const root of document.querySelectorAll(".modgrok-live:empty")) hero(root, models, question, page);
}

function hero(root, models, question, page) {
  const engine = new Engine(models);
  const { p } = engine;
  const { task } = question;
  const truth = allTasks(p).map(([x, y]) => solution(task, x, y, p));
  const panels = models.map((model) => ({ model: model.label, step: model.steps.at(-1).step, off: new Set() }));
  const trueExamples = () => question.examples.map((example) => [...example]);
  const state = { ...question, panels, by: "regression", examples: trueExamples() };
  const change = (fields) => {
    Object.assign(state, fields);
    update();
  };

  const turnLie = (i) => change({ examples: withLieTurned(state.examples, i, task, p) });
  const describe = ({ shots, examples }) => `${shots} of ${examples.length} are shown to the models`;
  const examples = examplesControl(p, change, turnLie, describe);
  const pick = (query) => change({ query });
  const cards = models.map((model) => cardView(p, pick, titleView(model.label), [], 40));
  const status = make("p", { role: "status" });
  const more = make("a", { className: "ask-more", textContent: "Ask the models yourself" });
  const mend = button("mend all lies", () => change({ examples: trueExamples() }));
  root.classList.add("ask-hero");
  root.replaceChildren(
    legendView("Move the slider. Press an example to make it lie. Click a question (x, y)."),
    cardsView(p, cards),
    status,
    ...examples.elements,
    make("div", { className: "ask-row" }, more, mend),
  );
  nameControl(root, "one question, two models");

  const context = () => state.examples.slice(0, state.shots);
  const isTrue = () => !context().some((example) => isLie(example, task, p));
  const storedAnswers = () => models.map((model) => question.answers[model.label][state.shots]);
  const ask = (transformers) =>
    transformers?.map((transformer, i) => engine.ask(i, panels[i], transformer, context()).answers) ?? storedAnswers();

  function draw(answers, looks) {
    const [x, y] = state.query;
    const q = x * p + y;
    const rings = ringsOf(context(), task, p);
    answers.forEach((modelAnswers, i) => {
      const { grid, count } = cards[i];
      write(count, `${modelAnswers.filter((z, j) => z === truth[j]).length} of ${p * p} right`);
      const label = `${models[i].label}: ${count.textContent}`;
      drawAnswers(grid, { p, answers: modelAnswers, truth, rings, query: state.query, label, looks });
    });
    const sentences = models.map((model, i) => `${model.label}: ${answers[i][q]}`);
    write(status, `${x} ${y} → ? ${sentences.join("; ")}; the rule gives ${truth[q]}.`);
  }

  const cycle = askAndDraw(root, {
    load: async () => (isTrue() ? null : engine.load(panels)),
    ask,
    draw,
    fail: (sentence) => write(status, sentence),
  });
  function update() {
    examples.draw(state);
    mend.hidden = !state.examples.some((example) => isLie(example, task, p));
    more.href = `${page}${toHash("ask", state)}`;
    cycle.update();
  }
  update();
}
