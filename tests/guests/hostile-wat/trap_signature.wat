;; Calls a function with the wrong type.
(module
  (memory (export "memory") 1)
  (type $nothing (func))
  (type $number (func (param i32) (result i32)))
  (table funcref (elem $other))
  (func $other (type $number) (local.get 0))
  (func (export "_start") (call_indirect (type $nothing) (i32.const 0))))
