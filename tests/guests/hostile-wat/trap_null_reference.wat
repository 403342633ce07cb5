;; Reads the field of a struct that is not there.
(module
  (memory (export "memory") 1)
  (type $box (struct (field i32)))
  (func (export "_start") (local $box (ref null $box))
    (drop (struct.get $box 0 (local.get $box)))))
