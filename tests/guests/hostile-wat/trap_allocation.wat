;; Allocates an array with too many elements.
(module
  (memory (export "memory") 1)
  (type $row (array i64))
  (func (export "_start") (drop (array.new_default $row (i32.const -1)))))
