;; Executes an instruction that says it cannot be reached.
(module
  (memory (export "memory") 1)
  (func (export "_start") (unreachable)))
