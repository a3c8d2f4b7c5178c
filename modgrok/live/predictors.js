// The exact predictors of modgrok.predictors, for one query at a time.
// A predictor maps (p, examples, tasks) to a function of (x, y) that gives a distribution over z (p numbers);
// examples are [x, y, z] in front of the query, tasks the pre-training tasks [a, b].

/** Votes as a distribution, uniform where nobody voted. */
function normalised(votes) {
  const total = votes.reduce((sum, v) => sum + v, 0);
  return votes.map((v) => (total ? v / total : 1 / votes.length));
}

/** An earlier example with the query's pair votes for its z. */
function lookUp(p, examples) {
  return (x, y) => {
    const votes = Array(p).fill(0);
    for (const [u, v, z] of examples) if (u === x && v === y) votes[z]++;
    return normalised(votes);
  };
}

/** An earlier example of which the query is the multiple c votes for c·z. */
function ratioMatching(p, examples) {
  return (x, y) => {
    const votes = Array(p).fill(0);
    for (const [u, v, z] of examples) {
      for (let c = 0; c < p; c++) {
        if ((c * u) % p !== x || (c * v) % p !== y) continue;
        votes[(c * z) % p]++;
        break; // (0, 0) is every multiple of itself, and still one vote
      }
    }
    return normalised(votes);
  };
}

/** Every task that agrees with all examples votes. */
function bayes(p, examples, tasks) {
  const agreeing = tasks.filter(([a, b]) => examples.every(([u, v, z]) => (a * u + b * v) % p === z));
  return (x, y) => {
    const votes = Array(p).fill(0);
    for (const [a, b] of agreeing) votes[(a * x + b * y) % p]++;
    return normalised(votes);
  };
}

/** All task vectors modulo p, in the order of modgrok.data.grid. */
function allTasks(p) {
  return Array.from({ length: p * p }, (_, i) => [Math.floor(i / p), i % p]);
}

/**
 * The z of the linear system where it is determined, that is, where all tasks that agree with the examples give one.
 * Found by enumeration, as Bayes over all tasks is, from which it differs nowhere.
 */
function regression(p, examples) {
  return bayes(p, examples, allTasks(p));
}

/** Name, as in modgrok.predictors.predictors → predictor. */
const PREDICTORS = {
  "look-up": lookUp,
  "ratio matching": ratioMatching,
  regression,
  "Bayes, all tasks": regression,
  "Bayes, pre-training tasks": bayes,
};

/** The index of the largest number, or null where another is as large (but for rounding). */
function certain(numbers) {
  const top = Math.max(...numbers);
  const best = numbers.findIndex((n) => n > top - 1e-6);
  return best === numbers.findLastIndex((n) => n > top - 1e-6) ? best : null;
}
