;; Asks for an array with more elements than any can have.
(module
  (memory (export "memory") 1)
  (type $row (array i64))
  (func (export "_start") (drop (array.new_default $row (i32.const -1)))))
