// The matrix product of the forward pass: in WebAssembly (product.wat), four numbers an instruction, where the browser
// has it, else in plain JavaScript, which takes five times as long. What it multiplies stays in the memory of that
// module, for copying there and back would take as long as the product.

const TILE = 4; // rows of w, whose products are summed at a time

const compiled = (() => {
  try {
    return new WebAssembly.Module(Uint8Array.from(atob(PRODUCT), (letter) => letter.charCodeAt(0)));
  } catch {
    return null; // the browser has no such instructions
  }
})();

/** The smallest whole number of tiles with room for n, in rows. */
function whole(n) {
  return Math.ceil(n / TILE) * TILE;
}

/**
 * Where a forward pass keeps its numbers: the module's memory, one array after the other. What does not fit (without
 * WebAssembly nothing does) is an array of its own, for which `plainProduct` serves, and fits after the next `clear`.
 */
const room = {
  numbers: new Float32Array(0),
  fast: null, // the module's product
  top: 0, // from here on it is free
  missing: 2 ** 20,

  clear() {
    this.top = 0;
    if (!this.missing || !compiled) return;
    const memory = new WebAssembly.Memory({ initial: Math.ceil((this.numbers.length + this.missing) / 2 ** 14) });
    this.numbers = new Float32Array(memory.buffer);
    this.fast = new WebAssembly.Instance(compiled, { js: { memory } }).exports.product;
    this.missing = 0;
  },

  /** n rows of zeros; `product` may write on to the end of the last tile of rows. */
  take(n, columns) {
    const size = whole(n) * columns;
    if (this.top + size > this.numbers.length) {
      this.missing += size;
      return new Float32Array(size);
    }
    this.top += size;
    return this.numbers.subarray(this.top - size, this.top).fill(0);
  },

  /** A copy of n rows. */
  put(rows, n) {
    const copy = this.take(n, rows.length / (n || 1));
    copy.set(rows);
    return copy;
  },
};

/**
 * a (n × k) · w (m × k)ᵀ is added to out (n × m). All come from `room`, and a row begins so many numbers after the one
 * before it. Where m is a whole number of tiles, w may have fewer rows: what stands in those columns is not to be read.
 */
function product(a, w, out, n, k, m, [stepA, stepW, stepOut] = [k, k, m]) {
  if (!n || !k || !m) return;
  const inRoom = [a, w, out].every(({ buffer }) => buffer === room.numbers.buffer);
  if (!inRoom || k % TILE || m % TILE) return plainProduct(a, w, out, n, k, m, [stepA, stepW, stepOut]);
  const [fromA, fromW] = [a.byteOffset, w.byteOffset];
  const [endA, endW] = [fromA + 4 * whole(n) * stepA, fromW + 4 * m * stepW];
  room.fast(fromA, endA, fromW, endW, out.byteOffset, 4 * k, 4 * stepA, 4 * stepW, 4 * stepOut);
}

/** The same in plain JavaScript, four rows by four columns at a time. */
function plainProduct(a, w, out, n, k, m, [stepA, stepW, stepOut] = [k, k, m]) {
  for (let i = 0; i < n; i += 4) {
    const rows = Math.min(4, n - i); // past the end the last row is taken again, and not written
    const a0 = i * stepA;
    const a1 = (i + Math.min(1, rows - 1)) * stepA;
    const a2 = (i + Math.min(2, rows - 1)) * stepA;
    const a3 = (i + Math.min(3, rows - 1)) * stepA;
    for (let j = 0; j < m; j += 4) {
      const columns = Math.min(4, m - j);
      const w0 = j * stepW;
      const w1 = (j + Math.min(1, columns - 1)) * stepW;
      const w2 = (j + Math.min(2, columns - 1)) * stepW;
      const w3 = (j + Math.min(3, columns - 1)) * stepW;
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
          out[(i + r) * stepOut + j + c] += sums[4 * r + c];
        }
      }
    }
  }
}
