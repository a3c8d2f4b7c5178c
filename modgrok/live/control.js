// The control: a question, the answers of a model or two, the truth and an exact predictor, and the models' maps.
// Whatever changes the state calls `update`, which asks the models and draws everything anew.

/** Fill the elements that wait for a control of that name; the arguments are those of modgrok.live.ask. */
function start(models, name, state) {
  for (const root of document.querySelectorAll(".modgrok-live:empty")) {
    if (root.dataset.name === name) whenNear(root, name, () => control(root, name, models, state));
  }
}

/** Begin when the reader comes near, or follows a link to the control of that name: weights are heavy. */
function whenNear(root, name, begin) {
  const near = new IntersectionObserver(
    (entries) => entries.some((entry) => entry.isIntersecting) && started(),
    { rootMargin: "800px" },
  );
  const linked = () => fromHash(name, location.hash) && started();
  function started() {
    near.disconnect();
    removeEventListener("hashchange", linked);
    begin();
    if (fromHash(name, location.hash)) root.scrollIntoView();
  }
  addEventListener("hashchange", linked);
  near.observe(root);
  linked();
}

function control(root, name, models, given) {
  const { p } = models[0].config;
  const numbers = [...Array(p).keys()];
  const most = Math.min(...models.map((m) => m.config.n_examples)) - 1;
  const modelOf = (panel) => models.find((m) => m.label === panel.model);
  const first = restored(given, models, {
    panels: [restoredPanel(models[0], {})],
    task: [1, 1],
    examples: [],
    query: [0, 0],
    by: "regression",
  });
  let state = restored(fromHash(name, location.hash) ?? {}, models, first);
  const answer = (x, y) => solution(state.task, x, y, p);
  const isLie = (example) => isFalse(example, state.task, p);
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
    await navigator.clipboard?.writeText(location.href).then(
      () => (link.textContent = "Copied"),
      () => {},
    );
    setTimeout(() => (link.textContent = "Link to this"), 2000);
  });
  const shots = make("input", {
    type: "range",
    min: 0,
    oninput: () => change({ shots: Number(shots.value) }),
  });
  const shotsText = make("span");
  const examplesShown = examplesView((i) => change({ examples: turned(state.examples, i, state.task, p) }));
  const own = make("textarea", { rows: 3, spellcheck: false, oninput: typed });
  own.setAttribute("aria-label", "own examples: x y z of each");
  const problem = make("p", { role: "alert", className: "ask-problem" });
  const status = make("p", { role: "status" });

  const withTask = (task) => {
    const lies = state.examples.map(isLie);
    const examples = state.examples.map(([x, y, z], i) => [
      x,
      y,
      lies[i] ? z : (task[0] * x + task[1] * y) % p,
    ]);
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
      wrong !== undefined
        ? `${wrong} is not in 0 … ${p - 1}.`
        : found.length > 3 * most
          ? `At most ${most} examples fit in front of the query.`
          : found.length % 3
            ? "An example is three numbers, x y z; the last is not whole yet."
            : "";
    if (problem.textContent) return;
    const examples = Array.from({ length: found.length / 3 }, (_, i) => found.slice(3 * i, 3 * i + 3));
    const agrees = ([a, b]) => examples.every(([x, y, z]) => (a * x + b * y) % p === z);
    const task = agrees(state.task) ? state.task : (allTasks(p).find(agrees) ?? state.task);
    change({ task, examples, shots: examples.length });
  }

  // the cards: a model or two, the truth, a predictor
  const cards = make("div", { className: "ask-cards" });
  cards.style.setProperty("--card", leastWidth(p));
  const pick = (query) => change({ query });
  const card = (heading, ...below) => {
    const grid = gridView(p, pick);
    const count = make("p", { className: "ask-count" });
    const element = make(
      "section",
      { className: "ask-card" },
      make("div", { className: "ask-row" }, ...heading),
      grid.element,
      count,
      ...below,
    );
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
  const labels = models.map((m) => m.label);
  const panelCards = [0, 1].map((i) => {
    const select = options(make("select"), labels);
    select.setAttribute("aria-label", `${["first", "second"][i]} model`);
    const changed = (panel) => change({ panels: state.panels.map((old, j) => (i === j ? panel : old)) });
    select.onchange = () => changed(restoredPanel(modelOf({ model: select.value }), {}));
    const step = make("input", { type: "range", min: 0 });
    step.oninput = () => changed({ ...state.panels[i], step: stepsOf(modelOf(state.panels[i]))[step.value] });
    step.setAttribute("aria-label", "training step");
    const stepText = make("span");
    const steps = make("label", { className: "ask-steps" }, step, stepText);
    const history = historyView((at) => changed({ ...state.panels[i], step: at }));
    const every = button("Ask at every step", () => askEveryStep(i));
    return {
      ...card([select], steps, every, history.element),
      select,
      step,
      stepText,
      steps,
      every,
      history,
      asked: null,
      flow: null,
      model: null,
    };
  });
  const flows = make("div", { className: "ask-flows" });
  const explained = make("table", { className: "ask-explained" });
  const told =
    "Who answers like this? Of the queries that a predictor is certain about, those to which the model gives the " +
    "same answer:";

  root.replaceChildren(
    make(
      "div",
      { className: "ask-row" },
      make("span", {}, "z = ", taskSelects[0], " x + ", taskSelects[1], ` y mod ${p}`),
      held,
      surprise,
      renew,
      link,
    ),
    make("label", { className: "ask-row" }, "examples", shots, shotsText),
    examplesShown.element,
    make("details", {}, make("summary", { textContent: "Type your own examples" }), own, problem),
    status,
    cards,
    make("div", { className: "ask-row" }, compare, single),
    flows,
    make("p", { textContent: told }),
    explained,
  );
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", "Ask the model");
  // JupyterLab takes single keys as its commands (d d deletes a cell) unless the focused element itself forbids it.
  root.addEventListener("focusin", (event) => (event.target.dataset.lmSuppressShortcuts = "true"));

  /** What was computed last for each place, for a change that leaves its question as it is. */
  const kept = {};
  function keep(place, question, compute) {
    if (kept[place]?.question !== question) kept[place] = { question, value: compute(kept[place]?.value) };
    return kept[place].value;
  }

  /** A panel's model after it read the shown examples, from the first that is new to it, and its answers. */
  function answersTo(i, transformer, context) {
    const { step, off } = state.panels[i];
    return keep(`answers ${i}`, `${step} ${question(i)}`, (last) => {
      const read = transformer.read(context.flat(), off, last?.read);
      const logits = transformer.answers(read, numbers, numbers);
      return { transformer, read, logits, answers: answersOf(logits) };
    });
  }

  /** What the exact predictors tell after a context: name → {odds, certain}, each of all p² queries. */
  function exactAnswers(context, tasks) {
    const found = new Map(); // some are the same
    for (const of of new Set(Object.values(PREDICTORS))) {
      const predict = of(p, context, tasks);
      const odds = allTasks(p).map(([x, y]) => predict(x, y));
      found.set(of, { odds, certain: odds.map(certain) });
    }
    return Object.fromEntries(SHOWN_PREDICTORS.map((name) => [name, found.get(PREDICTORS[name])]));
  }

  const question = (i) => {
    const { model, off = [] } = state.panels[i] ?? {}; // the second one may have gone
    return JSON.stringify([model, [...off], state.examples.slice(0, state.shots)]);
  };

  /** Put the question to every checkpoint; the answers stay until another question is asked. */
  async function askEveryStep(i) {
    const [card, key] = [panelCards[i], question(i)];
    const [tokens, { off }] = [state.examples.slice(0, state.shots).flat(), state.panels[i]];
    const model = modelOf(state.panels[i]);
    const steps = stepsOf(model);
    const answers = [];
    for (const step of steps) {
      card.every.textContent = `Asking step ${step.toLocaleString("en")} …`;
      try {
        const transformer = await load(model, step);
        answers.push(answersOf(transformer.answers(transformer.read(tokens, off), numbers, numbers)));
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
    if (document.activeElement === card.every) card.step.focus(); // the button goes
    redraw();
  }

  const answersOf = (logits) =>
    Array.from({ length: p * p }, (_, q) => argmax(logits.subarray(q * p, (q + 1) * p)));

  let turn = 0;
  let last = null; // what was drawn, to be drawn again for another width or theme
  let looks = null; // of the page, as long as they hold
  let restWaits = false; // for the next frame
  async function update() {
    const mine = ++turn;
    last = null;
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
    const knows = (panel) => modelOf(panel).tasks.some((task) => String(task) === String(state.task));
    const outside = state.panels.filter((panel) => !knows(panel));
    const known =
      outside.length === state.panels.length
        ? "held out from training"
        : outside.length
          ? `held out from ${outside[0].model}`
          : "a pre-training task";
    write(held, known);
    shots.max = state.examples.length;
    shots.value = state.shots;
    write(shotsText, `${state.shots} of ${state.examples.length} in front of the query`);
    shots.setAttribute("aria-valuetext", shotsText.textContent);
    examplesShown.draw(state, p);
    if (document.activeElement !== own) {
      own.value = state.examples.map((e) => e.join(" ")).join("\n");
      problem.textContent = "";
    }
    by.value = state.by;
    compare.hidden = state.panels.length > 1;
    single.hidden = !compare.hidden;
    const shown = panelCards.slice(0, state.panels.length);
    const wanted = [...shown, truth, predictor].map((c) => c.element);
    if (wanted.length !== cards.children.length) {
      cards.replaceChildren(...wanted);
      looks = null; // widths are others now
    }
    shown.forEach((card, i) => {
      const model = modelOf(state.panels[i]);
      const steps = stepsOf(model);
      card.select.value = model.label;
      card.steps.hidden = card.every.hidden = steps.length < 2;
      card.step.max = steps.length - 1;
      card.step.value = steps.indexOf(state.panels[i].step);
      write(card.stepText, `step ${state.panels[i].step.toLocaleString("en")}`);
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
    if (maps.length !== flows.children.length || maps.some((map, i) => map !== flows.children[i])) {
      flows.replaceChildren(...maps);
      looks = null;
    }
  }

  /** What models answer to the state's question. */
  function asked(transformers) {
    const context = state.examples.slice(0, state.shots);
    const q = state.query[0] * p + state.query[1];
    const panels = transformers.map((transformer, i) => {
      const answered = answersTo(i, transformer, context);
      return { ...answered, odds: softmax(answered.logits.subarray(q * p, (q + 1) * p)) };
    });
    return { context, panels, truth: allTasks(p).map(([x, y]) => answer(x, y)) };
  }

  const count = (answers) => answers.filter((z, i) => z === last.truth[i]).length;
  const drawGrid = (card, label, answers, truth) => {
    const rings = ringsOf(last.context, state.task, p);
    drawAnswers(card.grid, { p, answers, truth, rings, query: state.query, label, looks });
  };

  /** The models' answers; what they are compared with, and their maps, take a phone as long and follow in the next frame. */
  function draw(results) {
    last = results;
    const { context, panels, truth: right } = results;
    looks ??= looksOf(root);
    const [x, y] = state.query;
    const q = x * p + y;
    const names = namesOf(state.panels);

    panels.forEach(({ answers }, i) => {
      const off = state.panels[i].off;
      const card = panelCards[i];
      const without = off.size ? `, ${off.size} part${off.size > 1 ? "s" : ""} off` : "";
      write(card.count, `${count(answers)} of ${p * p} right${without}`);
      drawGrid(card, `${names[i]}: ${card.count.textContent}`, answers, right);
      card.flow.show(names[i], off);
    });
    const verdicts = panels.map(({ answers, odds }, i) => {
      const says = `at (${x}, ${y}) it says ${answers[q]} (${percent(odds[answers[q]])})`;
      return `${names[i]}: ${count(answers)} of ${p * p} queries right; ${says}.`;
    });
    const seen = `After ${context.length} example${context.length === 1 ? "" : "s"}.`;
    write(status, [seen, ...verdicts, `The truth there is ${right[q]}.`].join(" "));
    panelCards.forEach(({ asked, history, every }, i) => {
      history.element.hidden = !(state.panels[i] && asked?.key === question(i));
      if (history.element.hidden) return;
      every.hidden = true;
      const shares = asked.answers.map((each) => count(each) / p ** 2);
      const rightThere = asked.answers.map((each) => each[q] === right[q]);
      const at = (step, j) =>
        `step ${step}: ${percent(shares[j])} right, (${x}, ${y}) ${rightThere[j] ? "right" : "wrong"}`;
      const told = asked.steps.map(at).join("; ");
      history.draw({
        steps: asked.steps,
        shares,
        right: rightThere,
        now: asked.steps.indexOf(state.panels[i].step),
        told,
        looks,
      });
    });
    if (!restWaits) requestAnimationFrame(() => requestAnimationFrame(drawRest));
    restWaits = true;
  }

  /** The truth, the exact predictors, where the heads look at the query, and its probabilities. */
  function drawRest() {
    restWaits = false;
    if (!last) return; // another question is on its way
    const { context, panels, truth: right } = last;
    const first = modelOf(state.panels[0]);
    const exact = keep("exact", JSON.stringify([first.label, context]), () => exactAnswers(context, first.tasks));
    drawGrid(truth, "the truth", right, null);
    write(truth.count, `z = ${state.task[0]}x + ${state.task[1]}y mod ${p}`);
    const told = exact[state.by].certain;
    const open = told.filter((z) => z === null).length;
    write(predictor.count, `${count(told)} of ${p * p} right${open ? `, ${open} open` : ""}`);
    drawGrid(predictor, `${state.by}: ${predictor.count.textContent}`, told, right);
    drawExplained(panels, exact, namesOf(state.panels));
    const [x, y] = state.query;
    const q = x * p + y;
    panels.forEach(({ transformer, read, odds }, i) => {
      const seen = [];
      transformer.answers(read, [x], [y], (b, weights, readout) => (seen[b] = { weights, readout }));
      panelCards[i].flow.draw({
        context,
        query: state.query,
        seen,
        odds,
        exact: exact[state.by].odds[q],
        truth: right[q],
        by: state.by,
        looks,
      });
    });
  }

  const namesOf = (panels) =>
    panels.map(({ model }, i) =>
      panels.length > 1 && panels[0].model === panels[1].model ? `${model}, ${["left", "right"][i]}` : model,
    );

  /** Of the queries that a predictor is certain about, how many get its answer from the model. */
  function drawExplained(panels, exact, names) {
    const rows = SHOWN_PREDICTORS.map((name) => {
      const told = exact[name].certain;
      const agreeing = panels.map(({ answers }) => answers.filter((z, i) => z === told[i]).length);
      return [name, told.filter((z) => z !== null).length, ...agreeing];
    });
    if (explained.rows[0]?.cells.length !== rows[0].length) {
      const empty = (tag) => make("tr", {}, ...rows[0].map((_, i) => make(i ? tag : "th")));
      explained.replaceChildren(make("thead", {}, empty("th")), make("tbody", {}, ...rows.map(() => empty("td"))));
      for (const row of explained.tBodies[0].rows) row.cells[0].scope = "row";
    }
    [["predictor", "certain", ...names], ...rows].forEach((texts, i) => {
      texts.forEach((text, j) => write(explained.rows[i].cells[j], String(text)));
      explained.rows[i].classList.toggle("ask-chosen", texts[0] === state.by);
    });
  }

  function redraw() {
    looks = null;
    if (last) draw(last);
  }
  onChangedLooks(root, redraw);
  addEventListener("hashchange", () => {
    const linked = fromHash(name, location.hash);
    if (!linked) return;
    state = restored(linked, models, state);
    root.scrollIntoView();
    update();
  });
  update();
}
