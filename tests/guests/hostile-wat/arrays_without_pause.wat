;; Makes, fills and copies arrays of the collector over and over.
(module
  (memory (export "memory") 1)
  (type $bytes (array (mut i8)))
  (func (export "_start")
    (local $one (ref null $bytes)) (local $other (ref null $bytes))
    (loop $for_ever
      (local.set $one (array.new $bytes (i32.const 1) (i32.const 2000000)))
      (local.set $other (array.new_default $bytes (i32.const 2000000)))
      (array.fill $bytes (local.get $one) (i32.const 0) (i32.const 7) (i32.const 2000000))
      (array.copy $bytes $bytes (local.get $other) (i32.const 0) (local.get $one) (i32.const 0) (i32.const 2000000))
      (br $for_ever))))
