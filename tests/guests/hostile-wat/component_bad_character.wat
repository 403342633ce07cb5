;; Two components in one: the sender passes the receiver half of a surrogate pair as a character.
(component
  (component $hearer
    (core module $module (func (export "hear") (param i32)))
    (core instance $instance (instantiate $module))
    (func (export "hear") (param "letter" char) (canon lift (core func $instance "hear"))))
  (component $speaker
    (import "hear" (func $hear (param "letter" char)))
    (core func $hear (canon lower (func $hear)))
    (core module $module
      (import "hearer" "hear" (func $hear (param i32)))
      (func (export "run") (result i32)
        (call $hear (i32.const 0xd800))
        (i32.const 0)))
    (core instance $instance (instantiate $module (with "hearer" (instance (export "hear" (func $hear))))))
    (func (export "run") (result (result)) (canon lift (core func $instance "run"))))
  (instance $hearer (instantiate $hearer))
  (instance $speaker (instantiate $speaker (with "hear" (func $hearer "hear"))))
  (instance (export "wasi:cli/run@0.2.0") (export "run" (func $speaker "run"))))
