;; Builds an endless chain of structs that the collector cannot free.
(module
  (memory (export "memory") 1)
  (type $link (struct (field (ref null $link)) (field i64 i64 i64 i64 i64 i64 i64 i64)))
  (func (export "_start") (local $chain (ref null $link))
    (loop $more
      (local.set $chain (struct.new $link (local.get $chain)
        (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0)
        (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0)))
      (br $more))))
