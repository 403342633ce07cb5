;; Reads the ninth element of an array of eight.
(module
  (memory (export "memory") 1)
  (type $row (array i32))
  (func (export "_start")
    (drop (array.get $row (array.new_default $row (i32.const 8)) (i32.const 8)))))
