;; The matrix product of the forward pass, four numbers an instruction. `scripts/assemble.py` makes product.js of it.
;;
;; To the rows at $out it adds the products of the rows from $a to $a_end with the rows from $w to $w_end:
;; out[i, j] += sum over t of a[i, t] · w[j, t]. Two rows of a meet four of w at a time, as many sums as a processor
;; has registers for; so rows of a come in twos and those of w in fours. All arguments are bytes: addresses, the
;; length of what is summed over ($length), and the distances from one row's start to the next ($…_step).
(module
  (import "js" "memory" (memory 1))
  (func (export "product")
    (param $a i32) (param $a_end i32) (param $w i32) (param $w_end i32) (param $out i32) (param $length i32)
    (param $a_step i32) (param $w_step i32) (param $out_step i32)
    (local $a1 i32) (local $w0 i32) (local $w1 i32) (local $w2 i32) (local $w3 i32) ;; addresses of rows
    (local $out0 i32) (local $out1 i32) (local $t i32) ;; of four numbers of each row; how far along the rows
    (local $x0 v128) (local $x1 v128) (local $y v128) ;; four numbers of rows of a, and of one of w
    (local $s00 v128) (local $s01 v128) (local $s02 v128) (local $s03 v128) ;; sums of a's first row with w's four
    (local $s10 v128) (local $s11 v128) (local $s12 v128) (local $s13 v128) ;; and of its second
    (loop $rows
      (local.set $a1 (i32.add (local.get $a) (local.get $a_step)))
      (local.set $out0 (local.get $out))
      (local.set $out1 (i32.add (local.get $out) (local.get $out_step)))
      (local.set $w0 (local.get $w))
      (loop $columns
        (local.set $w1 (i32.add (local.get $w0) (local.get $w_step)))
        (local.set $w2 (i32.add (local.get $w1) (local.get $w_step)))
        (local.set $w3 (i32.add (local.get $w2) (local.get $w_step)))
        (local.set $s00 (v128.const i32x4 0 0 0 0))
        (local.set $s01 (v128.const i32x4 0 0 0 0))
        (local.set $s02 (v128.const i32x4 0 0 0 0))
        (local.set $s03 (v128.const i32x4 0 0 0 0))
        (local.set $s10 (v128.const i32x4 0 0 0 0))
        (local.set $s11 (v128.const i32x4 0 0 0 0))
        (local.set $s12 (v128.const i32x4 0 0 0 0))
        (local.set $s13 (v128.const i32x4 0 0 0 0))
        (local.set $t (i32.const 0))
        (loop $terms
          (local.set $x0 (v128.load (i32.add (local.get $a) (local.get $t))))
          (local.set $x1 (v128.load (i32.add (local.get $a1) (local.get $t))))
          (local.set $y (v128.load (i32.add (local.get $w0) (local.get $t))))
          (local.set $s00 (f32x4.add (f32x4.mul (local.get $x0) (local.get $y)) (local.get $s00)))
          (local.set $s10 (f32x4.add (f32x4.mul (local.get $x1) (local.get $y)) (local.get $s10)))
          (local.set $y (v128.load (i32.add (local.get $w1) (local.get $t))))
          (local.set $s01 (f32x4.add (f32x4.mul (local.get $x0) (local.get $y)) (local.get $s01)))
          (local.set $s11 (f32x4.add (f32x4.mul (local.get $x1) (local.get $y)) (local.get $s11)))
          (local.set $y (v128.load (i32.add (local.get $w2) (local.get $t))))
          (local.set $s02 (f32x4.add (f32x4.mul (local.get $x0) (local.get $y)) (local.get $s02)))
          (local.set $s12 (f32x4.add (f32x4.mul (local.get $x1) (local.get $y)) (local.get $s12)))
          (local.set $y (v128.load (i32.add (local.get $w3) (local.get $t))))
          (local.set $s03 (f32x4.add (f32x4.mul (local.get $x0) (local.get $y)) (local.get $s03)))
          (local.set $s13 (f32x4.add (f32x4.mul (local.get $x1) (local.get $y)) (local.get $s13)))
          (local.set $t (i32.add (local.get $t) (i32.const 16)))
          (br_if $terms (i32.lt_u (local.get $t) (local.get $length))))
        (v128.store (local.get $out0) (f32x4.add (v128.load (local.get $out0))
          (call $totals (local.get $s00) (local.get $s01) (local.get $s02) (local.get $s03))))
        (v128.store (local.get $out1) (f32x4.add (v128.load (local.get $out1))
          (call $totals (local.get $s10) (local.get $s11) (local.get $s12) (local.get $s13))))
        (local.set $out0 (i32.add (local.get $out0) (i32.const 16)))
        (local.set $out1 (i32.add (local.get $out1) (i32.const 16)))
        (local.set $w0 (i32.add (local.get $w3) (local.get $w_step)))
        (br_if $columns (i32.lt_u (local.get $w0) (local.get $w_end))))
      (local.set $a (i32.add (local.get $a1) (local.get $a_step)))
      (local.set $out (i32.add (i32.add (local.get $out) (local.get $out_step)) (local.get $out_step)))
      (br_if $rows (i32.lt_u (local.get $a) (local.get $a_end)))))

  ;; The sum of the four numbers of each of four vectors.
  (func $totals (param $a v128) (param $b v128) (param $c v128) (param $d v128) (result v128)
    (local $ab v128) (local $cd v128)
    (local.set $ab (call $halves (local.get $a) (local.get $b)))
    (local.set $cd (call $halves (local.get $c) (local.get $d)))
    (f32x4.add
      (i8x16.shuffle 0 1 2 3 4 5 6 7 16 17 18 19 20 21 22 23 (local.get $ab) (local.get $cd))
      (i8x16.shuffle 8 9 10 11 12 13 14 15 24 25 26 27 28 29 30 31 (local.get $ab) (local.get $cd))))

  ;; a0 + a2, b0 + b2, a1 + a3, b1 + b3
  (func $halves (param $a v128) (param $b v128) (result v128)
    (f32x4.add
      (i8x16.shuffle 0 1 2 3 16 17 18 19 4 5 6 7 20 21 22 23 (local.get $a) (local.get $b))
      (i8x16.shuffle 8 9 10 11 24 25 26 27 12 13 14 15 28 29 30 31 (local.get $a) (local.get $b)))))
