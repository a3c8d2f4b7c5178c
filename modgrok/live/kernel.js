// The matrix product of the forward pass, in WebAssembly with four numbers an instruction, where the browser has it:
// plain JavaScript takes several times as long, which a phone's reader would feel at p = 11. What it multiplies stays in
// the memory of that module, for copying there and back would take as long as the product.

// Rows of a, and of w, whose products are summed at a time: for more, a desktop has too few registers.
const ROWS = 2;
const TILE = 4;

/**
 * The bytes of a module that exports `product(a, endA, w, endW, out, k, strideA, strideW, stride)` and imports its memory:
 * the products of the rows from a to endA with the rows from w to endW, of k bytes each, are added to the rows at out.
 * All are addresses in bytes, strides from one row's start to the next's; there are some rows, in whole tiles.
 * fused: multiply and add by one instruction, which not all browsers have.
 */
function productModule(fused) {
  const number = (n) => (n < 128 ? [n] : [(n & 127) | 128, ...number(n >> 7)]);
  const sized = (bytes) => [...number(bytes.length), ...bytes];
  const section = (id, ...bytes) => [id, ...sized(bytes)];
  const text = (letters) => sized([...letters].map((letter) => letter.charCodeAt(0)));
  const each = (n, make) => Array.from({ length: n }, (_, i) => make(i)).flat();
  const simd = (code, ...rest) => [0xfd, ...number(code), ...rest];
  const get = (local) => [0x20, ...number(local)];
  const set = (local) => [0x21, ...number(local)];
  const add = 0x6a; // i32.add
  const plus = simd(0xe4); // f32x4.add
  const load = simd(0, 0, 0);
  const until = (at, end, body) => [0x03, 0x40, ...body, ...get(at), ...get(end), 0x49, 0x0d, 0, 0x0b];

  // locals: the arguments, the place in w, an offset into the rows, the rows' addresses; then, of four numbers each,
  // rows, sums, and what is never set and therefore 0
  const [A, END_A, W, END_W, OUT, K, STRIDE_A, STRIDE_W, STRIDE, AT_W, AT] = Array(11).keys();
  const [rowA, rowW, rowOut] = [0, 1, 2].map((i) => (r) => AT + 1 + i * TILE + r);
  const firstVector = AT + 1 + 3 * TILE;
  const [four, fourW] = [(r) => firstVector + r, firstVector + TILE];
  const sum = (r, c) => fourW + 1 + r * TILE + c;
  const zero = sum(TILE, 0);
  const rowsOf = (n, row, start, step) =>
    each(n, (r) => [...(r ? [...get(row(r - 1)), ...get(step), add] : get(start)), ...set(row(r))]);
  const loadAt = (row) => [...get(row), ...get(AT), add, ...load];
  // the four numbers of each of two vectors added up by halves, lanes of 4 bytes: (a, b) → a₀+a₂, b₀+b₂, a₁+a₃, b₁+b₃
  const lanes = (...of) => simd(0x0d, ...of.flatMap((lane) => [0, 1, 2, 3].map((byte) => 4 * lane + byte)));
  const halved = (a, b) => [
    ...[...get(a), ...get(b), ...lanes(0, 4, 1, 5)],
    ...[...get(a), ...get(b), ...lanes(2, 6, 3, 7), ...plus],
  ];
  const totals = (r) => [
    ...[...halved(sum(r, 0), sum(r, 1)), ...set(four(0)), ...halved(sum(r, 2), sum(r, 3)), ...set(four(1))],
    ...[...get(four(0)), ...get(four(1)), ...lanes(0, 1, 4, 5)],
    ...[...get(four(0)), ...get(four(1)), ...lanes(2, 3, 6, 7), ...plus],
  ];
  const body = [
    ...[2, ...number(2 + 3 * TILE), 0x7f, ...number(TILE + 2 + TILE * TILE), 0x7b], // i32 and v128 locals
    ...until(A, END_A, [
      ...[...rowsOf(ROWS, rowA, A, STRIDE_A), ...rowsOf(ROWS, rowOut, OUT, STRIDE), ...get(W), ...set(AT_W)],
      ...until(AT_W, END_W, [
        ...rowsOf(TILE, rowW, AT_W, STRIDE_W),
        ...each(ROWS, (r) => each(TILE, (c) => [...get(zero), ...set(sum(r, c))])),
        ...[0x41, 0, ...set(AT)],
        ...until(AT, K, [
          ...each(ROWS, (r) => [...loadAt(rowA(r)), ...set(four(r))]),
          ...each(TILE, (c) => [
            ...[...loadAt(rowW(c)), ...set(fourW)],
            ...each(ROWS, (r) => [
              ...[...get(four(r)), ...get(fourW), ...(fused ? [] : simd(0xe6)), ...get(sum(r, c))], // a · w + …
              ...[...(fused ? simd(0x105) : plus), ...set(sum(r, c))],
            ]),
          ]),
          ...[...get(AT), 0x41, 16, add, ...set(AT)],
        ]),
        ...each(ROWS, (r) => [
          ...[...get(rowOut(r)), ...get(rowOut(r)), ...load, ...totals(r), ...plus, ...simd(0x0b, 0, 0)],
          ...[...get(rowOut(r)), 0x41, 16, add, ...set(rowOut(r))],
        ]),
        ...[...get(rowW(TILE - 1)), ...get(STRIDE_W), add, ...set(AT_W)],
      ]),
      ...[...get(rowA(ROWS - 1)), ...get(STRIDE_A), add, ...set(A)],
      ...[...get(OUT), ...each(ROWS, () => [...get(STRIDE), add]), ...set(OUT)],
    ]),
    0x0b,
  ];
  return Uint8Array.from([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, 1, 0x60, 9, ...Array(9).fill(0x7f), 0), // its type: nine i32, no result
    ...section(2, 1, ...text("js"), ...text("memory"), 2, 0, 1),
    ...section(3, 1, 0),
    ...section(7, 1, ...text("product"), 0, 0),
    ...section(10, 1, ...sized(body)),
  ]);
}

const compiled = (() => {
  for (const fused of [true, false]) {
    try {
      return new WebAssembly.Module(productModule(fused));
    } catch {} // the browser has no such instructions
  }
  return null;
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
