;; Never gets as far as its main function: the start function, which runs while the module is instantiated, spins.
(module
  (memory (export "memory") 1)
  (func $spin (loop $for_ever (br $for_ever)))
  (start $spin)
  (func (export "_start")))
