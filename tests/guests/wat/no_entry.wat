;; A module that is no command: there is nothing to run in it.
(module
  (memory (export "memory") 1)
  (func (export "compute") (result i32) (i32.const 42)))
