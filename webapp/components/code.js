// A code to copy. Streamlit's own element loads half a megabyte of scripts to colour it.

export default function (component) {
  const { data, parentElement } = component;
  const shown = parentElement.querySelector("code");
  const button = parentElement.querySelector("button");
  if (shown.textContent !== data.code) shown.textContent = data.code;
  button.textContent = data.copy;
  button.onclick = async () => {
    try {
      await navigator.clipboard.writeText(data.code);
      button.textContent = data.copied;
    } catch {
      // No clipboard, over plain HTTP for example: the code is selected, to be copied by hand.
      getSelection().selectAllChildren(shown);
    }
  };
}
