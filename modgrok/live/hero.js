// The front page's question: the same examples for two models, their answers side by side.
// The answers to the true examples come with the page, for every number of shots; weights load for a lie.

/** Fill the element that waits; the arguments are those that modgrok.live.hero writes. */
function startHero(models, given, page) {
  for (const root of document.querySelectorAll(".modgrok-live:empty")) hero(root, models, given, page);
}

function hero(root, models, given, page) {
  const { p } = models[0].config;
  const numbers = [...Array(p).keys()];
  const truth = allTasks(p).map(([x, y]) => solution(given.task, x, y, p));
  const state = { ...given, examples: given.examples.map((e) => [...e]) };
  const change = (fields) => {
    Object.assign(state, fields);
    update();
  };

  const examples = examplesView((i) => change({ examples: turned(state.examples, i, state.task, p) }));
  const shots = make("input", {
    type: "range",
    min: 0,
    max: given.examples.length,
    oninput: () => change({ shots: Number(shots.value) }),
  });
  const shotsText = make("span");
  const status = make("p", { role: "status" });
  const cards = models.map((model) => {
    const grid = gridView(p, (query) => change({ query }), 40);
    const count = make("p", { className: "ask-count" });
    const title = make("p", { className: "ask-title", textContent: model.label });
    return { grid, count, element: make("section", { className: "ask-card" }, title, grid.element, count) };
  });
  const cardsRow = make("div", { className: "ask-cards" }, ...cards.map((card) => card.element));
  cardsRow.style.setProperty("--card", leastWidth(p));
  const more = make("a", { className: "ask-more", textContent: "Ask the model" });
  const mend = make("button", {
    type: "button",
    textContent: "mend all lies",
    onclick: () => change({ examples: given.examples.map((e) => [...e]) }),
  });
  root.classList.add("ask-hero");
  root.replaceChildren(
    make("label", { className: "ask-row" }, "examples", shots, shotsText),
    examples.element,
    cardsRow,
    status,
    make("div", { className: "ask-row" }, more, mend),
  );
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", "one question, two models");
  root.addEventListener("focusin", (event) => (event.target.dataset.lmSuppressShortcuts = "true"));

  const lies = () => state.examples.slice(0, state.shots).some((example) => isFalse(example, state.task, p));

  async function answers() {
    if (!lies()) return models.map((model) => given.answers[model.label][state.shots]);
    const transformers = await Promise.all(models.map((model) => load(model, model.steps.at(-1).step)));
    return transformers.map((transformer) => {
      const read = transformer.read(state.examples.slice(0, state.shots).flat());
      const logits = transformer.answers(read, numbers, numbers);
      return truth.map((_, q) => argmax(logits.subarray(q * p, (q + 1) * p)));
    });
  }

  let turn = 0;
  let last = null;
  let looks = null;
  async function update() {
    const mine = ++turn;
    examples.draw(state, p);
    shots.value = state.shots;
    shotsText.textContent = `${state.shots} of ${state.examples.length} are shown to the models`;
    shots.setAttribute("aria-valuetext", shotsText.textContent);
    mend.hidden = !state.examples.some((example) => isFalse(example, state.task, p));
    const panels = models.map((model) => ({ model: model.label, step: model.steps.at(-1).step, off: [] }));
    more.href = `${page}${toHash("ask", { ...state, panels, by: "regression" })}`;
    try {
      const found = await answers();
      if (mine === turn) draw((last = found));
    } catch (error) {
      if (mine === turn) status.textContent = `The weights could not be loaded: ${error.message}.`;
    }
  }

  function draw(found) {
    looks ??= looksOf(root);
    const [x, y] = state.query;
    const q = x * p + y;
    const rings = ringsOf(state.examples.slice(0, state.shots), state.task, p);
    const says = found.map((each, i) => {
      const { grid, count } = cards[i];
      count.textContent = `${each.filter((z, j) => z === truth[j]).length} of ${p * p} right`;
      const label = `${models[i].label}: ${count.textContent}`;
      drawAnswers(grid, { p, answers: each, truth, rings, query: state.query, label, looks });
      return `${models[i].label}: ${each[q]}`;
    });
    status.textContent = `${x} ${y} → ? ${says.join("; ")}; the rule gives ${truth[q]}.`;
  }
  onChangedLooks(root, () => {
    looks = null;
    if (last) draw(last);
  });
  update();
}
