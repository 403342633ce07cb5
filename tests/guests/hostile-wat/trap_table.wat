;; Calls a function beyond the end of its table.
(module
  (memory (export "memory") 1)
  (type $nothing (func))
  (table 1 funcref)
  (func (export "_start") (call_indirect (type $nothing) (i32.const 7))))
