// Loads the pictures of the next trials while a page is read.

export default function (component) {
  const { data } = component;
  const pictures = sharedPictures(data.pictures);
  pictures.ahead(data.trials);
  return () => {};
}
