;; Two components in one: the sender passes invalid UTF-8, which the receiver wants as UTF-16.
(component
  (component $hearer
    (core module $module
      (memory (export "memory") 1)
      (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 16))
      (func (export "hear") (param i32 i32)))
    (core instance $instance (instantiate $module))
    (func (export "hear") (param "words" string) (canon lift (core func $instance "hear") string-encoding=utf16
      (memory (core memory $instance "memory")) (realloc (core func $instance "realloc")))))
  (component $speaker
    (import "hear" (func $hear (param "words" string)))
    (core module $memory (memory (export "memory") 1) (data (i32.const 16) "caf\ff\fe"))
    (core instance $memory (instantiate $memory))
    (core func $hear (canon lower (func $hear) string-encoding=utf8 (memory (core memory $memory "memory"))))
    (core module $module
      (import "hearer" "hear" (func $hear (param i32 i32)))
      (func (export "run") (result i32)
        (call $hear (i32.const 16) (i32.const 5))
        (i32.const 0)))
    (core instance $instance (instantiate $module (with "hearer" (instance (export "hear" (func $hear))))))
    (func (export "run") (result (result)) (canon lift (core func $instance "run"))))
  (instance $hearer (instantiate $hearer))
  (instance $speaker (instantiate $speaker (with "hear" (func $hearer "hear"))))
  (instance (export "wasi:cli/run@0.2.0") (export "run" (func $speaker "run"))))
