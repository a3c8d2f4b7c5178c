// The paper's transformer in plain JavaScript, equal to modgrok.model.Transformer.query_logits but for rounding.
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
    this.table = this.project(this.blocks[0], this.embed, p);
  }

  /** Rows of a table, one a token. */
  rows(table, tokens) {
    const { C } = this;
    const out = new Float32Array(tokens.length * C);
    tokens.forEach((token, r) => out.set(table.subarray(token * C, (token + 1) * C), r * C));
    return out;
  }

  normed(x, n, [weight, bias]) {
    const { C } = this;
    const out = new Float32Array(n * C);
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
      const out = new Float32Array(n * C);
      product(normed, weight, out, n, C, C);
      return out;
    });
  }

  /** q, k, v of tokens whose residual stream before block b is x; row r stands at position(r). */
  qkv(b, tokens, x, position) {
    const { C, D, cos, sin } = this;
    const made = b
      ? this.project(this.blocks[b], x, tokens.length)
      : this.table.map((table) => this.rows(table, tokens));
    for (const turned of made.slice(0, 2)) {
      for (let r = 0; r < tokens.length; r++) {
        const start = (position(r) * D) / 2;
        for (let c = 0; c < C; c += 2) {
          const angle = start + (c % D) / 2;
          const at = r * C + c;
          const even = turned[at];
          const odd = turned[at + 1];
          turned[at] = even * cos[angle] - odd * sin[angle];
          turned[at + 1] = even * sin[angle] + odd * cos[angle];
        }
      }
    }
    return made;
  }

  /** Columns of head h of n rows, n × D. */
  ofHead(rows, n, h) {
    const { C, D } = this;
    const out = new Float32Array(n * D);
    for (let r = 0; r < n; r++) for (let d = 0; d < D; d++) out[r * D + d] = rows[r * C + h * D + d];
    return out;
  }

  /**
   * What the heads gather for n rows of q, n × C: row r from the first seen(r) of some keys that rows share, and from
   * its own ones, a list of [keys, values, their row]. The last row sees all. Its weights are also returned,
   * H × (keys that it sees).
   */
  attend(q, n, keys, values, seen, own = []) {
    const { C, H, D } = this;
    const scale = 1 / Math.sqrt(D);
    const shared = seen(n - 1);
    const width = 4 * Math.ceil(shared / 4); // as `product` likes it; what stands past the end is 0
    const mixed = new Float32Array(n * C);
    const looks = new Float32Array(H * (shared + own.length));
    const [scores, weights] = [new Float32Array(n * shared), new Float32Array(n * width)];
    const [turned, gathered] = [new Float32Array(D * width), new Float32Array(n * D)];
    const ownScores = new Float32Array(own.length);
    for (let h = 0; h < H; h++) {
      product(this.ofHead(q, n, h), this.ofHead(keys, shared, h), scores, n, D, shared);
      for (let t = 0; t < shared; t++) {
        for (let d = 0; d < D; d++) turned[d * width + t] = values[t * C + h * D + d];
      }
      for (let r = 0; r < n; r++) {
        const from = r * shared;
        const to = r * width;
        const end = seen(r);
        const at = r * C + h * D;
        let most = -Infinity;
        let sum = 0;
        for (let t = 0; t < end; t++) if (scores[from + t] > most) most = scores[from + t];
        for (let i = 0; i < own.length; i++) {
          const key = own[i][2](r) * C + h * D;
          let score = 0;
          for (let d = 0; d < D; d++) score += q[at + d] * own[i][0][key + d];
          ownScores[i] = score;
          if (score > most) most = score;
        }
        for (let t = 0; t < end; t++) sum += weights[to + t] = Math.exp((scores[from + t] - most) * scale);
        for (let i = 0; i < own.length; i++) sum += ownScores[i] = Math.exp((ownScores[i] - most) * scale);
        for (let t = 0; t < end; t++) weights[to + t] /= sum;
        for (let i = 0; i < own.length; i++) {
          const value = own[i][2](r) * C + h * D;
          ownScores[i] /= sum;
          for (let d = 0; d < D; d++) mixed[at + d] += ownScores[i] * own[i][1][value + d];
        }
      }
      product(weights, turned, gathered, n, width, D);
      for (let r = 0; r < n; r++) {
        for (let d = 0; d < D; d++) mixed[r * C + h * D + d] += gathered[r * D + d];
      }
      looks.set(weights.subarray((n - 1) * width, (n - 1) * width + shared), h * (shared + own.length));
      looks.set(ownScores, h * (shared + own.length) + shared);
    }
    return [mixed, looks];
  }

  /** The residual stream x after block b, in place, given what its heads gathered (n × C); parts off add nothing. */
  update(b, x, mixed, n, off) {
    const { C, D, H } = this;
    const block = this.blocks[b];
    for (let h = 0; h < H; h++) {
      if (!off.has(`blocks.${b}.head.${h}`)) continue;
      for (let r = 0; r < n; r++) mixed.fill(0, r * C + h * D, r * C + (h + 1) * D);
    }
    product(mixed, block.out, x, n, C, C, true);
    if (off.has(`blocks.${b}.mlp`)) return;
    const hidden = new Float32Array(n * 4 * C);
    product(this.normed(x, n, block.norm2), block.up, hidden, n, C, 4 * C);
    for (let i = 0; i < hidden.length; i++) if (hidden[i] < 0) hidden[i] = 0;
    product(hidden, block.down, x, n, 4 * C, C, true);
  }

  /** Logits (n × p) read off n rows of the residual stream through the final LayerNorm and the head. */
  readout(x, n) {
    const logits = new Float32Array(n * this.p);
    product(this.normed(x, n, this.norm), this.embed, logits, n, this.C, this.p);
    return logits;
  }

  /**
   * Read a context x₁ y₁ z₁ x₂ …; what is returned goes to `answers`.
   * off: the parts that add nothing, a Set of `blocks.0.head.1`, `blocks.0.mlp` …, as in modgrok.interpret.ablated.
   */
  read(tokens, off = new Set()) {
    const n = tokens.length;
    const x = this.rows(this.embed, tokens);
    const cache = this.blocks.map((_, b) => {
      const [q, keys, values] = this.qkv(b, tokens, x, (r) => r);
      if (b < this.depth - 1 && n) this.update(b, x, this.attend(q, n, keys, values, (r) => r + 1)[0], n, off);
      return [keys, values];
    });
    return { cache, off };
  }

  /**
   * Logits of z for all queries of xs × ys after the first `shots` examples of a context: (|xs|·|ys|) × p.
   * keep(b, weights, readout) receives, after each block, where the y of the last query looks, H × (3·shots + 2): the
   * tokens before it, its x, itself; and the logits (p) that its residual stream would give there.
   */
  answers({ cache, off }, shots, xs, ys, keep) {
    const start = 3 * shots; // a query's x stands here, its y one further
    const n = xs.length * ys.length;
    const yTokens = xs.flatMap(() => ys);
    const x = this.rows(this.embed, xs);
    const y = this.rows(this.embed, yTokens);
    const context = () => start; // all queries see it
    this.blocks.forEach((_, b) => {
      const [keys, values] = cache[b];
      const [qx, kx, vx] = this.qkv(b, xs, x, () => start);
      const [qy, ky, vy] = this.qkv(b, yTokens, y, () => start + 1);
      if (b < this.depth - 1) {
        const [mixed] = this.attend(qx, xs.length, keys, values, context, [[kx, vx, (r) => r]]);
        this.update(b, x, mixed, xs.length, off);
      }
      const own = [[kx, vx, (r) => Math.floor(r / ys.length)], [ky, vy, (r) => r]];
      const [mixed, looks] = this.attend(qy, n, keys, values, context, own);
      this.update(b, y, mixed, n, off);
      keep?.(b, looks, this.readout(y.subarray((n - 1) * this.C), 1));
    });
    return this.readout(y, n);
  }
}
