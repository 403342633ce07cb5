;; Never reaches its main function: the start function, which runs during instantiation, spins.
(module
  (memory (export "memory") 1)
  (func $spin (loop $for_ever (br $for_ever)))
  (start $spin)
  (func (export "_start")))
