declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)

; A loop called n times m times. Before each call its operands are set to where they first are, and so many outer and
; inner steps further on.
define internal void @calls(ptr %loop, ptr %data, ptr %args, ptr %first, ptr %dims, ptr %steps, i64 %nargs,
                            i64 %n, i64 %m, ptr %outer, ptr %inner) {
entry:
  %all = mul i64 %n, %m
  br label %head
head:
  %i = phi i64 [0, %entry], [%i.next, %call]
  %more = icmp slt i64 %i, %all
  br i1 %more, label %body, label %done
body:
  %i.outer = udiv i64 %i, %m
  %i.inner = urem i64 %i, %m
  br label %move
move:
  %j = phi i64 [0, %body], [%j.next, %moving]
  %last = icmp slt i64 %j, %nargs
  br i1 %last, label %moving, label %call
moving:
  %first.j = getelementptr i64, ptr %first, i64 %j
  %outer.j = getelementptr i64, ptr %outer, i64 %j
  %inner.j = getelementptr i64, ptr %inner, i64 %j
  %arg.j = getelementptr i64, ptr %args, i64 %j
  %start = load i64, ptr %first.j
  %outer.step = load i64, ptr %outer.j
  %inner.step = load i64, ptr %inner.j
  %outer.off = mul i64 %i.outer, %outer.step
  %inner.off = mul i64 %i.inner, %inner.step
  %off = add i64 %outer.off, %inner.off
  %at = add i64 %start, %off
  store i64 %at, ptr %arg.j
  %j.next = add i64 %j, 1
  br label %move
call:
  call void %loop(ptr %args, ptr %dims, ptr %steps, ptr %data)
  %i.next = add i64 %i, 1
  br label %head
done:
  ret void
}

; The rows with the given indices, of so many bytes each, one behind the other.
define internal void @take(ptr %to, ptr %from, ptr %indices, i64 %n, i64 %bytes) {
entry:
  br label %head
head:
  %i = phi i64 [0, %entry], [%i.next, %body]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %body, label %done
body:
  %at = getelementptr i64, ptr %indices, i64 %i
  %index = load i64, ptr %at
  %from.off = mul i64 %index, %bytes
  %to.off = mul i64 %i, %bytes
  %from.i = getelementptr i8, ptr %from, i64 %from.off
  %to.i = getelementptr i8, ptr %to, i64 %to.off
  call void @llvm.memcpy.p0.p0.i64(ptr %to.i, ptr %from.i, i64 %bytes, i1 false)
  %i.next = add i64 %i, 1
  br label %head
done:
  ret void
}
