;; Grows its table until it is refused, and then fails.
(module
  (memory (export "memory") 1)
  (table $all 1 funcref)
  (func (export "_start")
    (loop $more
      (br_if $more (i32.ne (table.grow $all (ref.null func) (i32.const 1000)) (i32.const -1))))
    (unreachable)))
