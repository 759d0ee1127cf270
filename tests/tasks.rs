//! What a task cannot do is a compile error that says so; what it can do is in `tests/c/tasks.c`.

mod util;

use std::process::Command;

/// The body of a task's function, in a program that is otherwise right.
fn source(body: &str) -> String {
    format!(
        "#include <becket.h>\n#include <stddef.h>\n\
         struct job {{ becket_task task; int kind; long long wide; char bytes[8]; }};\n\
         void job(becket_task *task);\n\
         void job(becket_task *task) {{\n  struct job *job = (struct job *)task;\n  (void)job;\n{body}\n}}\n"
    )
}

/// What compilers say of it, each with whether they take it.
fn compile(name: &str, body: &str) -> Vec<(bool, String)> {
    let folder = util::scratch("tasks");
    let file = folder.join(format!("{name}.c"));
    std::fs::write(&file, source(body)).unwrap();
    let mut compilers = vec![util::cc()];
    if Command::new("clang").arg("--version").output().is_ok_and(|it| it.status.success()) {
        compilers.push(Command::new("clang"));
    }
    let include = util::root().join("include");
    compilers
        .into_iter()
        .map(|mut compiler| {
            compiler.args(["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-fsyntax-only", "-I"]);
            let output = compiler.arg(&include).arg(&file).output().expect("a compiler runs");
            (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
        })
        .collect()
}

fn refused(name: &str, body: &str, words: &str) {
    for (taken, said) in compile(name, body) {
        assert!(!taken, "{name} was compiled");
        assert!(said.contains(words), "{name}: {words:?} is not in: {said}");
    }
}

const AWAIT: &str = "BECKET_AWAIT(becket_timer_add(task->loop, 1, 0, BECKET_AWAITING));";

#[test]
fn what_works_is_compiled_without_a_warning() {
    let body = format!(
        "BECKET_TASK_BEGIN(task);\n for (;;) {{\n if (job->kind) {{\n {AWAIT}\n }} else {{\n {AWAIT}\n }}\n \
         while (job->kind > 1) {{\n BECKET_AWAIT_WITHIN(0, 5);\n BECKET_AWAIT_TASK(NULL);\n }}\n \
         if (task->value < 0) BECKET_TASK_RETURN(task->value);\n }}\n BECKET_TASK_END;"
    );
    for (taken, said) in compile("right", &body) {
        assert!(taken && said.is_empty(), "{said}");
    }
}

#[test]
fn an_await_in_a_switch() {
    let body = format!(
        "BECKET_TASK_BEGIN(task);\n switch (job->kind) {{\n case 1:\n {AWAIT}\n break;\n default: break;\n }}\n BECKET_TASK_END;"
    );
    refused("switch", &body, "BECKET_ONE_AWAIT_A_LINE_AND_NONE_IN_A_SWITCH");
}

#[test]
fn two_awaits_on_a_line() {
    refused(
        "line",
        &format!("BECKET_TASK_BEGIN(task);\n {AWAIT} {AWAIT}\n BECKET_TASK_END;"),
        "BECKET_ONE_AWAIT_A_LINE_AND_NONE_IN_A_SWITCH",
    );
}

#[test]
fn an_await_outside_of_a_task() {
    refused("outside", AWAIT, "BECKET_TASK_BEGIN_is_missing");
    refused("return", "BECKET_TASK_RETURN(0);", "BECKET_TASK_BEGIN_is_missing");
    refused("end", "BECKET_TASK_END;", "BECKET_TASK_BEGIN_is_missing");
}

#[test]
fn a_task_that_is_none() {
    refused("none", "BECKET_TASK_BEGIN(job);\n BECKET_TASK_END;", "BECKET_TASK_BEGIN takes a becket_task *");
}

#[test]
fn an_array_of_variable_length_across_an_await() {
    let body = format!(
        "BECKET_TASK_BEGIN(task);\n {{ int many[job->kind]; many[0] = 1; (void)many;\n {AWAIT}\n }}\n BECKET_TASK_END;"
    );
    for (taken, said) in compile("variable", &body) {
        assert!(!taken, "{said}");
    }
}
