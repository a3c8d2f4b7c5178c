// The control: a question, the answers of a model or two, the truth and an exact predictor, and the models' maps.
// Whatever changes the state calls `change`, which asks the models and draws everything anew.

/** Fill the elements that wait for a control of that name; the arguments are those of modgrok.live.ask. */
function startControl(models, name, state) {
  for (const root of document.querySelectorAll(".modgrok-live:empty")) {
    if (root.dataset.name === name) whenNear(root, name, () => control(root, name, models, state));
  }
}

function control(root, name, models, wish) {
  const engine = new Engine(models);
  const { p } = engine;
  const first = validPanel(models[0]).panel;
  const blank = { panels: [first], task: [1, 1], examples: [], query: [0, 0], by: "regression" };
  let state = validState(wish, models, blank).state;
  const getState = () => state;
  const change = (fields) => {
    Object.assign(state, fields);
    // an address that no longer holds what is shown would mislead, and its link would not work twice
    if (fromHash(name, location.hash)) history.replaceState(history.state, "", location.href.split("#")[0]);
    write(notice, "");
    update();
  };
  const changePanel = (i, panel) =>
    change({ panels: state.panels.map((oldPanel, j) => (i === j ? panel : oldPanel)) });

  const question = questionView(models, { getState, change, getLink: () => toHash(name, state) });
  const notice = make("p", { role: "alert", className: "ask-problem ask-notice" });
  const status = make("p", { role: "status" });
  const pick = (query) => change({ query });
  const truthCard = cardView(p, pick, titleView("the truth"));
  const predictorSelect = options(make("select"), SHOWN_PREDICTORS);
  predictorSelect.onchange = () => change({ by: predictorSelect.value });
  predictorSelect.setAttribute("aria-label", "exact predictor");
  const predictorCard = cardView(p, pick, predictorSelect);
  const panelCards = [0, 1].map((i) =>
    panelCard(i, engine, pick, {
      getPanel: () => state.panels[i],
      changePanel: (panel) => changePanel(i, panel),
      askEveryStep: () => askEveryStep(i),
    }),
  );
  const cards = cardsView(p, []);
  const compare = button("Compare with another model", () => {
    const second = models.find((model) => model.label !== state.panels[0].model) ?? models[0];
    change({ panels: [...state.panels, validPanel(second).panel] });
  });
  const single = button("Remove the second model", () => change({ panels: state.panels.slice(0, 1) }));
  const flows = make("div", { className: "ask-flows" });
  const agreement = agreementView();
  root.replaceChildren(
    ...[notice, ...question.elements, status, cards, make("div", { className: "ask-row" }, compare, single), flows],
    ...agreement.elements,
  );
  nameControl(root, "Ask the model");

  /** The examples in front of the query. */
  const contextOf = () => state.examples.slice(0, state.shots);
  const questionTo = (i) => state.panels[i] && engine.question(state.panels[i], contextOf());

  /** Put the question to every checkpoint; the answers stay until another question is asked. */
  async function askEveryStep(i) {
    const [card, panel, key] = [panelCards[i], state.panels[i], questionTo(i)];
    const report = (step) => write(card.everyStep, `Asking step ${step.toLocaleString("en")} …`);
    try {
      const answers = await engine.askEveryStep(panel, contextOf(), report, () => questionTo(i) === key);
      if (answers) card.byStep = { key, steps: stepsOf(engine.modelOf(panel)), answers };
    } catch (error) {
      write(status, `The weights could not be loaded: ${error.message}.`);
    }
    write(card.everyStep, "Ask at every step");
    if (card.byStep && document.activeElement === card.everyStep) card.step.focus(); // the button goes
    cycle.redraw();
  }

  /** The controls as the state has them. */
  function showState() {
    question.draw(state);
    predictorSelect.value = state.by;
    compare.hidden = state.panels.length > 1;
    single.hidden = !compare.hidden;
    const shown = panelCards.slice(0, state.panels.length);
    shown.forEach((card, i) => card.show(state.panels[i]));
    const shownCards = [...shown, truthCard, predictorCard].map((card) => card.element);
    const shownFlows = shown.map((card) => card.flow.element);
    const areNewCards = replaceIfChanged(cards, shownCards);
    const areNewFlows = replaceIfChanged(flows, shownFlows);
    if (areNewCards || areNewFlows) cycle.forgetLooks(); // widths are others now
  }

  const countRight = (answers, truth) => answers.filter((z, q) => z === truth[q]).length;
  const drawGrid = (card, label, answers, truth, looks) => {
    const rings = ringsOf(contextOf(), state.task, p);
    drawAnswers(card.grid, { p, answers, truth, rings, query: state.query, label, looks });
  };

  /** What the models answer to the state's question. */
  function ask(transformers) {
    const q = state.query[0] * p + state.query[1];
    const panels = transformers.map((transformer, i) => {
      const result = engine.ask(`panel ${i}`, state.panels[i], transformer, contextOf());
      return { ...result, odds: softmax(result.logits.subarray(q * p, (q + 1) * p)) };
    });
    return { panels, truth: allTasks(p).map(([x, y]) => solution(state.task, x, y, p)) };
  }

  /** The models' answers. */
  function draw({ panels, truth }, looks) {
    const [x, y] = state.query;
    const q = x * p + y;
    const names = panelNames(state.panels);
    const sentences = panels.map(({ answers, odds }, i) => {
      const { off } = state.panels[i];
      const card = panelCards[i];
      const nRight = countRight(answers, truth);
      const without = off.size ? `, ${off.size} part${off.size > 1 ? "s" : ""} off` : "";
      write(card.count, `${nRight} of ${p * p} right${without}`);
      drawGrid(card, `${names[i]}: ${card.count.textContent}`, answers, truth, looks);
      card.flow.show(names[i], off);
      const answer = `at (${x}, ${y}) it says ${answers[q]} (${percent(odds[answers[q]])})`;
      return `${names[i]}: ${nRight} of ${p * p} queries right; ${answer}.`;
    });
    const seen = `After ${state.shots} example${state.shots === 1 ? "" : "s"}.`;
    write(status, [seen, ...sentences, `The truth there is ${truth[q]}.`].join(" "));
    panelCards.forEach((card, i) => card.drawHistory(state.panels[i], questionTo(i), { truth, query: state.query, looks }));
  }

  /** The truth, the exact predictors, where the heads look at the query, and its probabilities. */
  function drawRest({ panels, truth }, looks) {
    const context = contextOf();
    const exact = engine.askPredictors(engine.modelOf(state.panels[0]).tasks, context);
    const { certain, odds: exactOdds } = exact[state.by];
    const nOpen = certain.filter((z) => z === null).length;
    drawGrid(truthCard, "the truth", truth, null, looks);
    write(truthCard.count, `z = ${state.task[0]}x + ${state.task[1]}y mod ${p}`);
    write(predictorCard.count, `${countRight(certain, truth)} of ${p * p} right${nOpen ? `, ${nOpen} open` : ""}`);
    drawGrid(predictorCard, `${state.by}: ${predictorCard.count.textContent}`, certain, truth, looks);
    agreement.draw(exact, panels, panelNames(state.panels), state.by);
    const [x, y] = state.query;
    const q = x * p + y;
    panels.forEach(({ transformer, reading, odds }, i) => {
      const seen = [];
      transformer.answers(reading, [x], [y], (b, weights, readout) => (seen[b] = { weights, readout }));
      panelCards[i].flow.draw({
        ...{ context, query: state.query, seen, odds, looks },
        ...{ exact: exactOdds[q], truth: truth[q], by: state.by },
      });
    });
  }

  const cycle = askAndDraw(root, {
    load: () => engine.load(state.panels),
    ask,
    draw,
    drawRest,
    fail: (sentence) => write(status, sentence),
  });
  function update() {
    showState();
    cycle.update();
  }
  function follow(link) {
    const { state: linked, refused } = validState(link, models, state);
    state = linked;
    write(notice, refusal(refused));
    update();
  }
  addEventListener("hashchange", () => {
    const link = fromHash(name, location.hash);
    if (!link) return;
    follow(link);
    root.scrollIntoView();
  });
  follow(fromHash(name, location.hash) ?? {});
}
