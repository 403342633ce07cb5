;; Casts a small number to a struct.
(module
  (memory (export "memory") 1)
  (type $box (struct (field i32)))
  (func (export "_start")
    (drop (ref.cast (ref $box) (ref.i31 (i32.const 7))))))
