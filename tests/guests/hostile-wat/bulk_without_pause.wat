;; Fills and copies its memory and its tables over and over: instructions that no clock interrupts.
(module
  (memory (export "memory") 200)
  (table $one 60000 funcref)
  (table $other 60000 funcref)
  (elem declare func $start)
  (data $passive "some bytes to begin with")
  (func $start (export "_start")
    (loop $for_ever
      (memory.init $passive (i32.const 0) (i32.const 0) (i32.const 24))
      (memory.fill (i32.const 0) (i32.const 1) (i32.const 13107200))
      (memory.copy (i32.const 65536) (i32.const 0) (i32.const 13041664))
      (table.fill $one (i32.const 0) (ref.func $start) (i32.const 60000))
      (table.copy $other $one (i32.const 0) (i32.const 0) (i32.const 60000))
      (br $for_ever))))
