;; Throws an exception without a handler.
(module
  (memory (export "memory") 1)
  (tag $thrown (param i32))
  (func (export "_start") (throw $thrown (i32.const 7))))
