// Dialogs over the question at hand.

/** Show a dialog; when it closes, however it does, the question has the focus. */
export function showOver(dialog) {
  // A browser gives the focus back at once to whatever had it. Moved later, by the close event, it would leave a moment
  // in which Enter presses the button behind the dialog once more, and does not hand the answer in.
  document.getElementById("ask")?.focus({ preventScroll: true });
  dialog.showModal();
}
