;; Reads a field of a null struct.
(module
  (memory (export "memory") 1)
  (type $box (struct (field i32)))
  (func (export "_start") (local $box (ref null $box))
    (drop (struct.get $box 0 (local.get $box)))))
