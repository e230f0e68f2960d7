; What is the same for every program. A loop has the signature of NumPy's inner loops: pointers to its operands, sizes,
; steps in bytes, and data of its own.

declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)

; A call: the loop, its data, where its pointers stand (args), what they are at first, sizes (dims), steps, how many
; pointers there are, how often it is called along two axes outside the loop, and the steps of these.
%call = type { ptr, ptr, ptr, ptr, ptr, ptr, i64, i64, i64, ptr, ptr }

; What an update works on: its batch of indices, where its loss goes, and its rates (or null).
%state = type { ptr, ptr, ptr }

; A loop called n times m times. Before each call its operands are set to where they are at first, and moved by an
; outer step for each outer turn and an inner step for each inner one.
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

; dims[0] bytes from args[0] to args[1].
define void @copy(ptr %args, ptr %dims, ptr %steps, ptr %data) {
  %from = load ptr, ptr %args
  %to.at = getelementptr ptr, ptr %args, i64 1
  %to = load ptr, ptr %to.at
  %size = load i64, ptr %dims
  call void @llvm.memcpy.p0.p0.i64(ptr %to, ptr %from, i64 %size, i1 false)
  ret void
}

; The rows of args[0] that the batch picks, dims[0] rows of dims[1] bytes, to args[1]. data: the state.
define void @take(ptr %args, ptr %dims, ptr %steps, ptr %data) {
entry:
  %from = load ptr, ptr %args
  %to.at = getelementptr ptr, ptr %args, i64 1
  %to = load ptr, ptr %to.at
  %n = load i64, ptr %dims
  %bytes.at = getelementptr i64, ptr %dims, i64 1
  %bytes = load i64, ptr %bytes.at
  %batch = load ptr, ptr %data
  br label %head
head:
  %i = phi i64 [0, %entry], [%i.next, %body]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %body, label %done
body:
  %at = getelementptr i64, ptr %batch, i64 %i
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

; A learning rate, if there are new ones: dims[0] bytes, dims[1] bytes behind the update's first, to args[0].
define void @rate(ptr %args, ptr %dims, ptr %steps, ptr %data) {
entry:
  %rates.at = getelementptr %state, ptr %data, i64 0, i32 2
  %rates = load ptr, ptr %rates.at
  %none = icmp eq ptr %rates, null
  br i1 %none, label %done, label %set
set:
  %to = load ptr, ptr %args
  %size = load i64, ptr %dims
  %off.at = getelementptr i64, ptr %dims, i64 1
  %off = load i64, ptr %off.at
  %from = getelementptr i8, ptr %rates, i64 %off
  call void @llvm.memcpy.p0.p0.i64(ptr %to, ptr %from, i64 %size, i1 false)
  br label %done
done:
  ret void
}

; The loss, dims[0] bytes from args[0], to where the state says.
define void @loss(ptr %args, ptr %dims, ptr %steps, ptr %data) {
  %to.at = getelementptr %state, ptr %data, i64 0, i32 1
  %to = load ptr, ptr %to.at
  %from = load ptr, ptr %args
  %size = load i64, ptr %dims
  call void @llvm.memcpy.p0.p0.i64(ptr %to, ptr %from, i64 %size, i1 false)
  ret void
}

; Calls that are done on one block of elements after the other. dims: how many elements, how many in a block, how many
; calls; data: the calls, whose operands move from an element to the next, between blocks, by their outer steps: memory
; of one block's size does not move.
define void @blocks(ptr %args, ptr %dims, ptr %steps, ptr %data) {
entry:
  %size = load i64, ptr %dims
  %block.at = getelementptr i64, ptr %dims, i64 1
  %block.size = load i64, ptr %block.at
  %calls.at = getelementptr i64, ptr %dims, i64 2
  %n = load i64, ptr %calls.at
  br label %block
block:
  %from = phi i64 [0, %entry], [%to, %after]
  %end = add i64 %from, %block.size
  %short = icmp slt i64 %size, %end
  %to = select i1 %short, i64 %size, i64 %end
  %count = sub i64 %to, %from
  br label %head
head:
  %i = phi i64 [0, %block], [%i.next, %call]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %body, label %after
body:
  %c = getelementptr %call, ptr %data, i64 %i
  %loop = load ptr, ptr %c
  %own.at = getelementptr %call, ptr %c, i64 0, i32 1
  %own = load ptr, ptr %own.at
  %a.at = getelementptr %call, ptr %c, i64 0, i32 2
  %a = load ptr, ptr %a.at
  %f.at = getelementptr %call, ptr %c, i64 0, i32 3
  %f = load ptr, ptr %f.at
  %d.at = getelementptr %call, ptr %c, i64 0, i32 4
  %d = load ptr, ptr %d.at
  %s.at = getelementptr %call, ptr %c, i64 0, i32 5
  %s = load ptr, ptr %s.at
  %k.at = getelementptr %call, ptr %c, i64 0, i32 6
  %k = load i64, ptr %k.at
  %m.at = getelementptr %call, ptr %c, i64 0, i32 9
  %m = load ptr, ptr %m.at
  store i64 %count, ptr %d
  br label %move
move:
  %j = phi i64 [0, %body], [%j.next, %moving]
  %last = icmp slt i64 %j, %k
  br i1 %last, label %moving, label %call
moving:
  %f.j = getelementptr i64, ptr %f, i64 %j
  %m.j = getelementptr i64, ptr %m, i64 %j
  %a.j = getelementptr i64, ptr %a, i64 %j
  %start = load i64, ptr %f.j
  %step = load i64, ptr %m.j
  %off = mul i64 %from, %step
  %at = add i64 %start, %off
  store i64 %at, ptr %a.j
  %j.next = add i64 %j, 1
  br label %move
call:
  call void %loop(ptr %a, ptr %d, ptr %s, ptr %own)
  %i.next = add i64 %i, 1
  br label %head
after:
  %again = icmp slt i64 %to, %size
  br i1 %again, label %block, label %done
done:
  ret void
}

; n updates, each of them all calls of the table.
define void @run(i64 %n, ptr %table, i64 %length, ptr %state, ptr %batches, i64 %batch.step, ptr %losses,
                 i64 %loss.step, ptr %rates, i64 %rate.step) {
entry:
  %steady = icmp eq ptr %rates, null
  br label %head
head:
  %k = phi i64 [0, %entry], [%k.next, %after]
  %more = icmp slt i64 %k, %n
  br i1 %more, label %update, label %done
update:
  %batch.off = mul i64 %k, %batch.step
  %batch = getelementptr i8, ptr %batches, i64 %batch.off
  store ptr %batch, ptr %state
  %loss.off = mul i64 %k, %loss.step
  %loss = getelementptr i8, ptr %losses, i64 %loss.off
  %loss.at = getelementptr %state, ptr %state, i64 0, i32 1
  store ptr %loss, ptr %loss.at
  %rate.off = mul i64 %k, %rate.step
  %rate.k = getelementptr i8, ptr %rates, i64 %rate.off
  %rate = select i1 %steady, ptr null, ptr %rate.k
  %rate.at = getelementptr %state, ptr %state, i64 0, i32 2
  store ptr %rate, ptr %rate.at
  br label %each
each:
  %i = phi i64 [0, %update], [%i.next, %body]
  %left = icmp slt i64 %i, %length
  br i1 %left, label %body, label %after
body:
  %c = getelementptr %call, ptr %table, i64 %i
  %call = load %call, ptr %c
  %loop = extractvalue %call %call, 0
  %data = extractvalue %call %call, 1
  %args = extractvalue %call %call, 2
  %first = extractvalue %call %call, 3
  %dims = extractvalue %call %call, 4
  %steps = extractvalue %call %call, 5
  %nargs = extractvalue %call %call, 6
  %outer.n = extractvalue %call %call, 7
  %inner.n = extractvalue %call %call, 8
  %outer = extractvalue %call %call, 9
  %inner = extractvalue %call %call, 10
  call void @calls(ptr %loop, ptr %data, ptr %args, ptr %first, ptr %dims, ptr %steps, i64 %nargs, i64 %outer.n,
                   i64 %inner.n, ptr %outer, ptr %inner)
  %i.next = add i64 %i, 1
  br label %each
after:
  %k.next = add i64 %k, 1
  br label %head
done:
  ret void
}
