;; Waits for zero time in a loop: it computes, although it only waits.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "polling\n")
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 16))
    (i32.store (i32.const 4) (i32.const 8))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    ;; One subscription, zero except for its clock: the monotonic one, with a timeout of 0 ns.
    (i32.store (i32.const 80) (i32.const 1))
    (loop $for_ever
      (drop (call $poll (i32.const 64) (i32.const 128) (i32.const 1) (i32.const 256)))
      (br $for_ever))))
