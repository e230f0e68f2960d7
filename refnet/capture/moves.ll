; Loops of the same make as those of NumPy's ufuncs, which only move elements, here of BITS bits:
; `args` points to an operand each, `dims` to the number of elements, `steps` to the bytes from one to the next.

define internal void @copyBITS(ptr %args, ptr %dims, ptr %steps, ptr %data) {
entry:
  %n = load i64, ptr %dims
  %from = load ptr, ptr %args
  %to.at = getelementptr i64, ptr %args, i64 1
  %to = load ptr, ptr %to.at
  %from.step = load i64, ptr %steps
  %to.step.at = getelementptr i64, ptr %steps, i64 1
  %to.step = load i64, ptr %to.step.at
  br label %head
head:
  %i = phi i64 [0, %entry], [%i.next, %body]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %body, label %done
body:
  %from.off = mul i64 %i, %from.step
  %to.off = mul i64 %i, %to.step
  %from.i = getelementptr i8, ptr %from, i64 %from.off
  %to.i = getelementptr i8, ptr %to, i64 %to.off
  %x = load iBITS, ptr %from.i, align 1
  store iBITS %x, ptr %to.i, align 1
  %i.next = add i64 %i, 1
  br label %head
done:
  ret void
}

; Where the first operand is true the second, elsewhere the third.
define internal void @selectBITS(ptr %args, ptr %dims, ptr %steps, ptr %data) {
entry:
  %n = load i64, ptr %dims
  %on = load ptr, ptr %args
  %a.at = getelementptr i64, ptr %args, i64 1
  %a = load ptr, ptr %a.at
  %b.at = getelementptr i64, ptr %args, i64 2
  %b = load ptr, ptr %b.at
  %to.at = getelementptr i64, ptr %args, i64 3
  %to = load ptr, ptr %to.at
  %on.step = load i64, ptr %steps
  %a.step.at = getelementptr i64, ptr %steps, i64 1
  %a.step = load i64, ptr %a.step.at
  %b.step.at = getelementptr i64, ptr %steps, i64 2
  %b.step = load i64, ptr %b.step.at
  %to.step.at = getelementptr i64, ptr %steps, i64 3
  %to.step = load i64, ptr %to.step.at
  br label %head
head:
  %i = phi i64 [0, %entry], [%i.next, %body]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %body, label %done
body:
  %on.off = mul i64 %i, %on.step
  %a.off = mul i64 %i, %a.step
  %b.off = mul i64 %i, %b.step
  %to.off = mul i64 %i, %to.step
  %on.i = getelementptr i8, ptr %on, i64 %on.off
  %a.i = getelementptr i8, ptr %a, i64 %a.off
  %b.i = getelementptr i8, ptr %b, i64 %b.off
  %to.i = getelementptr i8, ptr %to, i64 %to.off
  %c = load i8, ptr %on.i
  %yes = icmp ne i8 %c, 0
  %x = load iBITS, ptr %a.i, align 1
  %y = load iBITS, ptr %b.i, align 1
  %z = select i1 %yes, iBITS %x, iBITS %y
  store iBITS %z, ptr %to.i, align 1
  %i.next = add i64 %i, 1
  br label %head
done:
  ret void
}
