;; Says that it has begun, and fills 250 MiB of memory over and over, in one instruction each time.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 4000)
  (data (i32.const 16) "filling\n")
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 16))
    (i32.store (i32.const 4) (i32.const 8))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (loop $for_ever
      (memory.fill (i32.const 65536) (i32.const 1) (i32.const 262000000))
      (br $for_ever))))
