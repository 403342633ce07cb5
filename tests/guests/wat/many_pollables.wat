;; Waits for 1200 clocks in one host call. Zeroes are subscriptions to a time in the past.
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (func (export "_start")
    (drop (call $poll (i32.const 16) (i32.const 65536) (i32.const 1200) (i32.const 0)))))
