// The paper's transformer in JavaScript, equal to modgrok.model.Transformer.query_logits but for rounding.
// One pass over the context leaves its keys and values behind; a query adds its own x and y.
// Arrays are flat: n × C means n rows of C numbers, one after the other.

/** The tensors of a safetensors file (F16 or F32) in an ArrayBuffer: name → {shape, data: Float32Array}. */
function readSafetensors(buffer) {
  const size = Number(new DataView(buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, size)));
  delete header.__metadata__;
  return Object.fromEntries(
    Object.entries(header).map(([name, { dtype, shape, data_offsets: [start, end] }]) => {
      if (dtype !== "F16" && dtype !== "F32") throw new Error(`${name} is ${dtype}; only F16 and F32 are read.`);
      const bytes = buffer.slice(8 + size + start, 8 + size + end);
      const data = dtype === "F32" ? new Float32Array(bytes) : Float32Array.from(new Uint16Array(bytes), fromHalf);
      return [name, { shape, data }];
    }),
  );
}

function fromHalf(bits) {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const size = exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25);
  return bits >> 15 ? -size : size; // weights are finite, so exponent 31 does not occur
}

class Transformer {
  /** The tensors of a checkpoint (`readSafetensors`) and the fields of its run's config. */
  constructor(tensors, { p, n_embd: C, n_head: H, depth, n_examples, rope_base }) {
    Object.assign(this, { p, C, H, D: C / H, depth, T: 3 * n_examples });
    const data = (name) => tensors[name].data;
    const norm = (name) => [data(`${name}.weight`), data(`${name}.bias`)];
    this.embed = data("embed.weight"); // also the output head
    this.norm = norm("ln_f");
    this.blocks = Array.from({ length: depth }, (_, i) => {
      const qkv = data(`blocks.${i}.attn.qkv.weight`); // rows: q, then k, then v
      return {
        norm1: norm(`blocks.${i}.ln_1`),
        norm2: norm(`blocks.${i}.ln_2`),
        qkv: [0, 1, 2].map((part) => qkv.subarray(part * C * C, (part + 1) * C * C)),
        out: data(`blocks.${i}.attn.out.weight`),
        up: data(`blocks.${i}.mlp.0.weight`),
        down: data(`blocks.${i}.mlp.2.weight`),
      };
    });
    const half = this.D / 2;
    const angle = (_, i) => Math.floor(i / half) * rope_base ** (-(i % half) / half);
    const angles = Array.from({ length: this.T * half }, angle);
    [this.cos, this.sin] = [Float32Array.from(angles, Math.cos), Float32Array.from(angles, Math.sin)];
    // before positions are turned in, the first block's q, k, v depend on the token alone: a table serves all
    room.clear();
    this.table = this.project(this.blocks[0], this.embed, p).map((table) => table.slice(0, p * C));
  }

  /** Rows of a table, one a token. */
  rows(table, tokens) {
    const { C } = this;
    const out = room.take(tokens.length, C);
    for (let r = 0; r < tokens.length; r++) for (let c = 0; c < C; c++) out[r * C + c] = table[tokens[r] * C + c];
    return out;
  }

  normed(x, n, [weight, bias]) {
    const { C } = this;
    const out = room.take(n, C);
    for (let i = 0; i < n * C; i += C) {
      let mean = 0;
      let variance = 0;
      for (let c = 0; c < C; c++) mean += x[i + c] / C;
      for (let c = 0; c < C; c++) variance += (x[i + c] - mean) ** 2 / C;
      const scale = 1 / Math.sqrt(variance + 1e-5);
      for (let c = 0; c < C; c++) out[i + c] = (x[i + c] - mean) * scale * weight[c] + bias[c];
    }
    return out;
  }

  /** q, k and v of n rows of the residual stream, before positions are turned in. */
  project(block, x, n) {
    const { C } = this;
    const normed = this.normed(x, n, block.norm1);
    return block.qkv.map((weight) => {
      const out = room.take(n, C);
      product(normed, room.put(weight, C), out, n, C, C);
      return out;
    });
  }

  /** q, k, v of tokens whose residual stream before block b is x; row r stands at position(r). */
  qkv(b, tokens, x, position) {
    const { C, D, cos, sin } = this;
    const projected = b
      ? this.project(this.blocks[b], x, tokens.length)
      : this.table.map((table) => this.rows(table, tokens));
    for (const turned of projected.slice(0, 2)) {
      for (let r = 0; r < tokens.length; r++) {
        const start = (position(r) * D) / 2;
        for (let c = 0; c < C; c += 2) {
          const angle = start + (c % D) / 2;
          const i = r * C + c;
          const even = turned[i];
          const odd = turned[i + 1];
          turned[i] = even * cos[angle] - odd * sin[angle];
          turned[i + 1] = even * sin[angle] + odd * cos[angle];
        }
      }
    }
    return projected;
  }

  /**
   * What the heads gather for n rows with their q, k, v, all n × C: row r from the first nSeen(r) of the context's keys
   * and values, from row before(r) of the n, unless that is row r, and from itself. The last row sees the most. Its
   * weights are also returned, H × (what it sees).
   */
  attend([q, k, v], n, keys, values, nSeen, before) {
    const { C, H, D } = this;
    const scale = 1 / Math.sqrt(D);
    const shared = nSeen(n - 1);
    const width = whole(shared);
    const [mixed, turned] = [room.take(n, C), room.take(D, width)];
    const context = room.put(keys.subarray(0, shared * C), shared);
    const lastWeights = [];
    for (let h = 0; h < H; h++) {
      const first = h * D;
      const weights = room.take(n, width); // scores at first
      product(q.subarray(first), context.subarray(first), weights, n, D, width, [C, C, width]);
      for (let t = 0; t < shared; t++) for (let d = 0; d < D; d++) turned[d * width + t] = values[t * C + first + d];
      for (let r = 0; r < n; r++) {
        const [from, end] = [r * width, r * width + nSeen(r)];
        const own = r * C + first;
        const previous = before(r) * C + first;
        let score = 0;
        let scoreBefore = 0;
        for (let d = 0; d < D; d++) score += q[own + d] * k[own + d];
        for (let d = 0; d < D; d++) scoreBefore += q[own + d] * k[previous + d];
        if (previous === own) scoreBefore = -Infinity;
        let top = Math.max(score, scoreBefore);
        for (let t = from; t < end; t++) if (weights[t] > top) top = weights[t];
        let weight = Math.exp((score - top) * scale);
        let weightBefore = Math.exp((scoreBefore - top) * scale);
        let sum = weight + weightBefore;
        for (let t = from; t < end; t++) sum += weights[t] = Math.exp((weights[t] - top) * scale);
        weight /= sum;
        weightBefore /= sum;
        for (let t = from; t < end; t++) weights[t] /= sum;
        weights.fill(0, end, from + width);
        for (let d = 0; d < D; d++) mixed[own + d] = weight * v[own + d] + weightBefore * v[previous + d];
        if (r === n - 1) lastWeights.push(...weights.subarray(from, end), weightBefore, weight);
      }
      product(weights, turned, mixed.subarray(first), n, width, D, [width, width, C]);
    }
    return [mixed, Float32Array.from(lastWeights)];
  }

  /** The residual stream x after block b, in place, given what its heads gathered (n × C); parts off add nothing. */
  update(b, x, mixed, n, off) {
    const { C, D, H } = this;
    const block = this.blocks[b];
    for (let h = 0; h < H; h++) {
      if (!off.has(`blocks.${b}.head.${h}`)) continue;
      for (let r = 0; r < n; r++) mixed.fill(0, r * C + h * D, r * C + (h + 1) * D);
    }
    product(mixed, room.put(block.out, C), x, n, C, C);
    if (off.has(`blocks.${b}.mlp`)) return;
    const hidden = room.take(n, 4 * C);
    product(this.normed(x, n, block.norm2), room.put(block.up, 4 * C), hidden, n, C, 4 * C);
    const bits = new Int32Array(hidden.buffer, hidden.byteOffset, n * 4 * C);
    for (let i = 0; i < bits.length; i++) bits[i] &= ~(bits[i] >> 31); // ReLU: 0 where the sign bit is set
    product(hidden, room.put(block.down, C), x, n, 4 * C, C);
  }

  /** Logits (n × p) read off n rows of the residual stream through the final LayerNorm and the head. */
  readout(x, n) {
    const { C, p } = this;
    const width = whole(p);
    const padded = room.take(n, width);
    product(this.normed(x, n, this.norm), room.put(this.embed, p), padded, n, C, width);
    return Float32Array.from({ length: n * p }, (_, i) => padded[Math.floor(i / p) * width + (i % p)]);
  }

  /**
   * Read a context x₁ y₁ z₁ x₂ …; what is returned goes to `answers`, and to the next reading, which keeps what is the
   * same: a token's keys and values depend on the tokens up to it.
   * off: the parts that add nothing, a Set of `blocks.0.head.1`, `blocks.0.mlp` …, as in modgrok.analysis.interventions.ablated.
   */
  read(tokens, off = new Set(), last = null) {
    const { C } = this;
    let nKept = 0;
    if (last?.reader === this && String([...last.off]) === String([...off])) {
      while (nKept < tokens.length && tokens[nKept] === last.tokens[nKept]) nKept++;
    }
    room.clear();
    const fresh = tokens.slice(nKept);
    const n = fresh.length;
    const x = this.rows(this.embed, fresh);
    const start = room.top;
    const cache = this.blocks.map((_, b) => {
      room.top = start;
      const qkv = this.qkv(b, fresh, x, (r) => nKept + r);
      const [keys, values] = qkv.slice(1).map((rows, i) => {
        const joined = new Float32Array(tokens.length * C);
        if (nKept) joined.set(last.cache[b][i].subarray(0, nKept * C));
        joined.set(rows.subarray(0, n * C), nKept * C);
        return joined;
      });
      if (b < this.depth - 1 && n) {
        const [mixed] = this.attend(qkv, n, keys, values, (r) => nKept + r, (r) => r);
        this.update(b, x, mixed, n, off);
      }
      return [keys, values];
    });
    return { reader: this, tokens, off, cache };
  }

  /**
   * Logits of z for all queries of xs × ys after a context that was read: (|xs|·|ys|) × p.
   * keep(b, weights, readout) receives, after each block, where the y of the last query looks, H × (tokens + 2): the
   * tokens before it, its x, itself; and the logits (p) that its residual stream would give there.
   * edit(b, q) may change, before block b attends, the query vectors q, rows of C numbers: first those of xs, then those
   * of the ys, pair by pair.
   */
  answers({ tokens, cache, off }, xs, ys, keep, edit) {
    const start = tokens.length; // a query's x stands here, its y one further
    const [X, Y] = [xs.length, ys.length];
    const queries = [...xs, ...xs.flatMap(() => ys)]; // first what all queries with an x share, then their y
    const n = queries.length;
    const position = (r) => (r < X ? start : start + 1);
    const before = (r) => (r < X ? r : Math.floor((r - X) / Y));
    room.clear();
    const x = this.rows(this.embed, queries);
    const top = room.top;
    this.blocks.forEach((_, b) => {
      room.top = top;
      const qkv = this.qkv(b, queries, x, position);
      edit?.(b, qkv[0]);
      const [mixed, weights] = this.attend(qkv, n, ...cache[b], () => start, before);
      this.update(b, x, mixed, n, off);
      keep?.(b, weights, this.readout(x.subarray((n - 1) * this.C, n * this.C), 1));
    });
    room.top = top;
    return this.readout(x.subarray(X * this.C), X * Y);
  }
}
