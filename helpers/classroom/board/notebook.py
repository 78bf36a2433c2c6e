import marimo

__generated_with = "0.25.2"
app = marimo.App(
    width="full",
    app_title="Class board",
    css_file="../notebook/course.css",
)

with app.setup(hide_code=True):
    import marimo as mo

    from helpers.classroom.board import draw


@app.cell(hide_code=True)
def _(here):
    mo.vstack([mo.md("# The class, now"), here.card()])
    return


@app.cell(hide_code=True)
def _(found):
    draw.overview(found)
    return


@app.cell(hide_code=True)
def _(again, lab, stuck_minutes):
    mo.hstack([lab, stuck_minutes, again], justify="start", gap=2, wrap=True)
    return


@app.cell(hide_code=True)
def _(shown):
    mo.vstack([mo.md("## Who needs you"), draw.needs_you(shown)])
    return


@app.cell(hide_code=True)
def _(shown):
    mo.vstack([mo.md("## Learners by checks"), draw.matrix(shown)])
    return


@app.cell(hide_code=True)
def _(learner, shown):
    mo.vstack([mo.md("## One learner"), learner, draw.learner_detail(shown, learner.value)])
    return


@app.cell(hide_code=True)
def _(check, shown):
    mo.vstack([mo.md("## One check through the class"), check, draw.check_detail(shown, check.value)])
    return


@app.cell(hide_code=True)
def _(again, here, stuck_minutes):
    found = draw.look_up(here, stuck_minutes.value, again.value)
    return (found,)


@app.cell(hide_code=True)
def _(found, lab):
    shown = draw.lab_of(found, lab.value)
    return (shown,)


@app.cell(hide_code=True)
def _(here, lab):
    chosen = next((item for item in here.labs if item.id == lab.value), None)
    check = mo.ui.dropdown(
        [item.id for item in chosen.checks] if chosen else [], label="check", searchable=True
    )
    return (check,)


@app.cell(hide_code=True)
def _():
    # The choices do not depend on what was seen, so that a new look does not undo them.
    here = draw.open_class()
    draw.keep_looking(here)
    numbers = [item.id for item in here.labs]
    lab = mo.ui.dropdown(numbers, value=numbers[0] if numbers else None, label="lab")
    learner = mo.ui.dropdown(here.learners, label="learner", searchable=True)
    stuck_minutes = mo.ui.number(1, 240, value=15, label="stuck after minutes")
    again = mo.ui.refresh(options=["3s", "10s", "30s"], default_interval="3s", label="show again every")
    return again, here, lab, learner, stuck_minutes


if __name__ == "__main__":
    app.run()
