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

/** out (n × m) = a (n × k) · w (m × k)ᵀ, added to what is there if `add`; four rows by four columns at a time. */
function product(a, w, out, n, k, m, add = false) {
  for (let i = 0; i < n; i += 4) {
    const rows = Math.min(4, n - i); // past the end the last row is taken again, and not written
    const a0 = i * k;
    const a1 = (i + Math.min(1, rows - 1)) * k;
    const a2 = (i + Math.min(2, rows - 1)) * k;
    const a3 = (i + Math.min(3, rows - 1)) * k;
    for (let j = 0; j < m; j += 4) {
      const columns = Math.min(4, m - j);
      const w0 = j * k;
      const w1 = (j + Math.min(1, columns - 1)) * k;
      const w2 = (j + Math.min(2, columns - 1)) * k;
      const w3 = (j + Math.min(3, columns - 1)) * k;
      // sixteen sums in local variables: an array would be several times slower
      let s00 = 0, s01 = 0, s02 = 0, s03 = 0, s10 = 0, s11 = 0, s12 = 0, s13 = 0;
      let s20 = 0, s21 = 0, s22 = 0, s23 = 0, s30 = 0, s31 = 0, s32 = 0, s33 = 0;
      for (let t = 0; t < k; t++) {
        const x0 = a[a0 + t], x1 = a[a1 + t], x2 = a[a2 + t], x3 = a[a3 + t];
        const y0 = w[w0 + t], y1 = w[w1 + t], y2 = w[w2 + t], y3 = w[w3 + t];
        s00 += x0 * y0; s01 += x0 * y1; s02 += x0 * y2; s03 += x0 * y3;
        s10 += x1 * y0; s11 += x1 * y1; s12 += x1 * y2; s13 += x1 * y3;
        s20 += x2 * y0; s21 += x2 * y1; s22 += x2 * y2; s23 += x2 * y3;
        s30 += x3 * y0; s31 += x3 * y1; s32 += x3 * y2; s33 += x3 * y3;
      }
      const sums = [s00, s01, s02, s03, s10, s11, s12, s13, s20, s21, s22, s23, s30, s31, s32, s33];
      for (let r = 0; r < rows; r++) {
        for (let c = 0; c < columns; c++) {
          const at = (i + r) * m + j + c;
          out[at] = sums[4 * r + c] + (add ? out[at] : 0);
        }
      }
    }
  }
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
        for (let c = 0; c < C; c += 2) {
          const angle = (position(r) * D + (c % D)) / 2;
          const at = r * C + c;
          const [even, odd] = [turned[at], turned[at + 1]];
          turned[at] = even * cos[angle] - odd * sin[angle];
          turned[at + 1] = even * sin[angle] + odd * cos[angle];
        }
      }
    }
    return made;
  }

  /** What the heads of row r of q gather from the first n keys, into row r of mixed; weights receives H × n. */
  attend(q, r, keys, values, n, mixed, weights) {
    const { C, H, D } = this;
    const scale = 1 / Math.sqrt(D);
    for (let h = 0; h < H; h++) {
      const at = r * C + h * D;
      const w = h * n;
      let most = -Infinity;
      let sum = 0;
      for (let t = 0; t < n; t++) {
        const key = t * C + h * D;
        let even = 0; // two sums that need not wait for each other
        let odd = 0;
        for (let d = 0; d < D; d += 2) {
          even += q[at + d] * keys[key + d];
          odd += q[at + d + 1] * keys[key + d + 1];
        }
        const score = (even + odd) * scale;
        weights[w + t] = score;
        if (score > most) most = score;
      }
      for (let t = 0; t < n; t++) {
        weights[w + t] = Math.exp(weights[w + t] - most);
        sum += weights[w + t];
      }
      for (let t = 0; t < n; t++) {
        weights[w + t] /= sum;
        const value = t * C + h * D;
        for (let d = 0; d < D; d++) mixed[at + d] += weights[w + t] * values[value + d];
      }
    }
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
    const weights = new Float32Array(this.H * this.T);
    const cache = this.blocks.map((_, b) => {
      const [q, keys, values] = this.qkv(b, tokens, x, (r) => r);
      if (b < this.depth - 1) {
        const mixed = new Float32Array(n * this.C);
        for (let r = 0; r < n; r++) this.attend(q, r, keys, values, r + 1, mixed, weights);
        this.update(b, x, mixed, n, off);
      }
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
    const { C, p, H } = this;
    const start = 3 * shots; // a query's x stands here, its y one further
    const n = xs.length * ys.length;
    const yTokens = xs.flatMap(() => ys);
    const x = this.rows(this.embed, xs);
    const y = this.rows(this.embed, yTokens);
    const weights = new Float32Array(H * (start + 2));
    const put = (to, at, from, row) => to.set(from.subarray(row * C, (row + 1) * C), at * C);
    this.blocks.forEach((_, b) => {
      const last = b === this.depth - 1;
      const [qx, kx, vx] = this.qkv(b, xs, x, () => start);
      const [qy, ky, vy] = this.qkv(b, yTokens, y, () => start + 1);
      const [keys, values] = cache[b].map((context) => {
        const own = new Float32Array((start + 2) * C); // the context's, then a query's own x and y
        own.set(context.subarray(0, start * C));
        return own;
      });
      const mixedX = new Float32Array(xs.length * C);
      const mixedY = new Float32Array(n * C);
      for (let i = 0; i < xs.length; i++) {
        put(keys, start, kx, i);
        put(values, start, vx, i);
        if (!last) this.attend(qx, i, keys, values, start + 1, mixedX, weights);
        for (let r = i * ys.length; r < (i + 1) * ys.length; r++) {
          put(keys, start + 1, ky, r);
          put(values, start + 1, vy, r);
          this.attend(qy, r, keys, values, start + 2, mixedY, weights);
        }
      }
      if (!last) this.update(b, x, mixedX, xs.length, off);
      this.update(b, y, mixedY, n, off);
      keep?.(b, weights.slice(), this.readout(y.subarray((n - 1) * C), 1));
    });
    return this.readout(y, n);
  }
}
