;; A module that is not a command: it has no entry point.
(module
  (memory (export "memory") 1)
  (func (export "compute") (result i32) (i32.const 42)))
