// What belongs to one model of a control: its card, its history, its map; and whom it agrees with.

/** A model's card: which model, which checkpoint, its answers at one step or at all. */
function panelCard(i, engine, pick, { getPanel, changePanel, askEveryStep }) {
  const select = options(make("select"), engine.models.map((model) => model.label));
  select.setAttribute("aria-label", `${["first", "second"][i]} model`);
  select.onchange = () => changePanel(validPanel(engine.modelOf({ model: select.value })).panel);
  const step = make("input", { type: "range", min: 0 });
  step.oninput = () => changePanel({ ...getPanel(), step: stepsOf(engine.modelOf(getPanel()))[step.value] });
  step.setAttribute("aria-label", "training step");
  const stepText = make("span");
  const stepRow = make("label", { className: "ask-steps" }, step, stepText);
  const everyStep = button("Ask at every step", askEveryStep);
  const history = historyView((chosenStep) => changePanel({ ...getPanel(), step: chosenStep }));
  const card = cardView(engine.p, pick, select, [stepRow, everyStep, history.element]);
  let model = null;

  /** The controls as the panel has them. */
  function show(panel) {
    const steps = stepsOf(engine.modelOf(panel));
    select.value = panel.model;
    stepRow.hidden = everyStep.hidden = steps.length < 2;
    step.max = steps.length - 1;
    step.value = steps.indexOf(panel.step);
    write(stepText, `step ${panel.step.toLocaleString("en")}`);
    step.setAttribute("aria-valuetext", stepText.textContent);
    if (model === engine.modelOf(panel)) return;
    model = engine.modelOf(panel);
    view.flow = flowView(model, (edit) => {
      const off = new Set(getPanel().off);
      edit(off);
      changePanel({ ...getPanel(), off });
    });
  }

  /** The answers at every step, if they were asked for and are to the question of that key. */
  function drawHistory(panel, key, { truth, query: [x, y], looks }) {
    const { byStep } = view;
    history.element.hidden = !panel || byStep?.key !== key;
    if (history.element.hidden) return;
    everyStep.hidden = true;
    const q = x * engine.p + y;
    const shares = byStep.answers.map((answers) => answers.filter((z, j) => z === truth[j]).length / truth.length);
    const right = byStep.answers.map((answers) => answers[q] === truth[q]);
    const texts = byStep.steps.map(
      (step, j) => `step ${step}: ${percent(shares[j])} right, (${x}, ${y}) ${right[j] ? "right" : "wrong"}`,
    );
    const now = byStep.steps.indexOf(panel.step);
    history.draw({ steps: byStep.steps, shares, right, now, description: texts.join("; "), looks });
  }
  const view = { ...card, step, everyStep, flow: null, byStep: null, show, drawHistory };
  return view;
}

/** Names that tell two panels apart. */
function panelNames(panels) {
  const areSame = panels.length > 1 && panels[0].model === panels[1].model;
  return panels.map(({ model }, i) => (areSame ? `${model}, ${["left", "right"][i]}` : model));
}

/** A table: of the queries that a predictor is certain about, how many get its answer from a model. */
function agreementView() {
  const table = make("table", { className: "ask-agreement" });
  const text =
    "Who answers like this? Of the queries that a predictor is certain about, those to which the model gives the " +
    "same answer:";

  function draw(exact, panels, names, chosenPredictor) {
    const rows = SHOWN_PREDICTORS.map((name) => {
      const { certain } = exact[name];
      const agreeing = panels.map(({ answers }) => answers.filter((z, q) => z === certain[q]).length);
      return [name, certain.filter((z) => z !== null).length, ...agreeing];
    });
    if (table.rows[0]?.cells.length !== rows[0].length) {
      const emptyRow = (tag) => make("tr", {}, ...rows[0].map((_, i) => make(i ? tag : "th")));
      const body = make("tbody", {}, ...rows.map(() => emptyRow("td")));
      table.replaceChildren(make("thead", {}, emptyRow("th")), body);
      for (const row of body.rows) row.cells[0].scope = "row";
    }
    [["predictor", "certain", ...names], ...rows].forEach((texts, i) => {
      texts.forEach((cellText, j) => write(table.rows[i].cells[j], String(cellText)));
      table.rows[i].classList.toggle("ask-chosen", texts[0] === chosenPredictor);
    });
  }
  return { elements: [make("p", { textContent: text }), table], draw };
}

/** Put children into an element, unless they are there: the focus would be lost. Whether anything changed. */
function replaceIfChanged(element, children) {
  const isSame = children.length === element.children.length && children.every((child, i) => child === element.children[i]);
  if (!isSame) element.replaceChildren(...children);
  return !isSame;
}
