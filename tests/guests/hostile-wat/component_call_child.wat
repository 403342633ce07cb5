;; Calls a component that it contains: a component must not enter its child while it runs itself.
(component
  (component $child
    (core module $module (func (export "hear")))
    (core instance $instance (instantiate $module))
    (func (export "hear") (canon lift (core func $instance "hear"))))
  (instance $child (instantiate $child))
  (core func $hear (canon lower (func $child "hear")))
  (core module $module
    (import "child" "hear" (func $hear))
    (func (export "run") (result i32)
      (call $hear)
      (i32.const 0)))
  (core instance $instance (instantiate $module (with "child" (instance (export "hear" (func $hear))))))
  (func $run (result (result)) (canon lift (core func $instance "run")))
  (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))
