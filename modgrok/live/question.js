// The question of a control: task, examples, lies, and examples typed by the reader.

/** {elements, draw(state, isHeldOut)}; change(fields) changes the state, getState() gives it. */
function questionView(models, { getState, change, getLink }) {
  const { p } = models[0].config;
  const limit = Math.min(...models.map((model) => model.config.n_examples)) - 1;
  const modelOf = (panel) => models.find((model) => model.label === panel.model);
  const random = (list) => list[Math.floor(Math.random() * list.length)];

  /** Examples of a task on training inputs of the first model; as many in front of the query as before. */
  function newExamples(task) {
    const { panels, examples, shots } = getState();
    const pairs = Array.from({ length: limit }, () => random(modelOf(panels[0]).pairs));
    const drawn = pairs.map(([x, y]) => [x, y, solution(task, x, y, p)]);
    return { task, examples: drawn, shots: examples.length ? shots : limit };
  }

  function changeTask(task) {
    const { examples, task: oldTask } = getState();
    change({ task, examples: withTask(examples, oldTask, task, p) });
  }

  const taskSelects = ["a", "b"].map((letter, i) => {
    const select = options(make("select"), [...Array(p).keys()]);
    select.setAttribute("aria-label", `${letter} of the task`);
    select.onchange = () => changeTask(getState().task.map((n, j) => (i === j ? Number(select.value) : n)));
    return select;
  });
  const heldOut = make("span", { className: "ask-quiet" });
  const surprise = button("Surprise me", () => {
    const trained = new Set(getState().panels.flatMap((panel) => modelOf(panel).tasks.map(String)));
    const unseen = allTasks(p).filter((task) => task[0] * task[1] && !trained.has(String(task)));
    change(newExamples(random(unseen.length ? unseen : allTasks(p))));
  });
  const renew = button("New examples", () => change(newExamples(getState().task)));
  const turnLie = (i) => {
    const { examples, task } = getState();
    change({ examples: withLieTurned(examples, i, task, p) });
  };
  const describe = ({ shots, examples }) => `${shots} of ${examples.length} in front of the query`;
  const examples = examplesControl(p, change, turnLie, describe);
  const typed = typedView(p, limit, { getState, change });
  const equation = make("span", {}, "z = ", taskSelects[0], " x + ", taskSelects[1], ` y mod\u00a0${p}`);
  const hint = "Press an example to make it lie. Click a question (x, y) in a grid.";
  const elements = [
    make("div", { className: "ask-row" }, equation, heldOut, surprise, renew, linkButton(getLink)),
    ...examples.elements,
    typed.element,
    legendView(hint),
  ];

  function draw(state) {
    taskSelects.forEach((select, i) => (select.value = state.task[i]));
    const isTrained = (panel) => modelOf(panel).tasks.some((task) => String(task) === String(state.task));
    const unaware = state.panels.filter((panel) => !isTrained(panel));
    const isPartly = unaware.length && unaware.length < state.panels.length;
    const everywhere = unaware.length ? "held out from training" : "a pre-training task";
    write(heldOut, isPartly ? `held out from ${unaware[0].model}` : everywhere);
    examples.draw(state);
    typed.draw(state);
  }
  return { elements, draw };
}

/** A button that puts the state into the page's address, and the address onto the clipboard. */
function linkButton(getLink) {
  const label = "Link to this";
  const link = button(label, async () => {
    history.replaceState(history.state, "", getLink());
    link.textContent = "The address holds it";
    await navigator.clipboard?.writeText(location.href).then(
      () => (link.textContent = "Copied"),
      () => {},
    );
    setTimeout(() => (link.textContent = label), 2000);
  });
  return link;
}

/** A field for examples of one's own; the task becomes one that agrees with most of them. */
function typedView(p, limit, { getState, change }) {
  const field = make("textarea", { rows: 3, spellcheck: false, oninput: take });
  field.setAttribute("aria-label", "own examples: x y z of each");
  const problem = make("p", { role: "alert", className: "ask-problem" });
  const summary = make("summary", { textContent: "Type your own examples" });
  const element = make("details", {}, summary, field, problem);

  function take() {
    const { examples, problem: sentence } = readExamples(field.value, p, limit);
    write(problem, sentence);
    if (sentence) return;
    const task = bestTask(examples, getState().task, p);
    const hasLies = examples.some((example) => isLie(example, task, p));
    if (hasLies) {
      const [a, b] = task;
      write(problem, `No task fits all of these. z = ${a}x + ${b}y fits most; the others are marked as lies.`);
    }
    change({ task, examples, shots: examples.length });
  }

  function draw({ examples }) {
    if (document.activeElement === field) return;
    field.value = examples.map((example) => example.join(" ")).join("\n");
    write(problem, "");
  }
  return { element, draw };
}
