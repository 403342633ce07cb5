;; Asks for 64 MiB before it has run a single instruction.
(module
  (memory (export "memory") 1024)
  (func (export "_start")))
