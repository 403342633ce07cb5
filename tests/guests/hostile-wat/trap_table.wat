;; Calls the function at a place that its table does not have.
(module
  (memory (export "memory") 1)
  (type $nothing (func))
  (table 1 funcref)
  (func (export "_start") (call_indirect (type $nothing) (i32.const 7))))
