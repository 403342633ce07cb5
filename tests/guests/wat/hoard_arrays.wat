;; Allocates garbage-collected arrays and keeps all of them, until there is no more memory.
(module
  (type $array (array (mut i8)))
  (type $list (struct (field (ref null $list)) (field (ref $array))))
  (memory (export "memory") 1)
  (global $all (mut (ref null $list)) (ref.null $list))
  (func (export "_start")
    (loop $more
      (global.set $all (struct.new $list (global.get $all) (array.new $array (i32.const 7) (i32.const 100000))))
      (br $more))))
